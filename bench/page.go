package main

func (r *report) markdown() []byte { return nil }
