package doctor

// ParseChallenges is parseChallenges for tests: parameters by scheme.
func ParseChallenges(values []string) (map[string]map[string]string, bool) {
	all, ok := parseChallenges(values)
	byScheme := map[string]map[string]string{}
	for _, c := range all {
		byScheme[c.scheme] = c.params
	}
	return byScheme, ok
}
