package store_test

const childRole = "POSTERN_STORE_TEST_CHILD"

func child(string) int { return 1 }
