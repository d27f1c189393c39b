//go:build race

package cost_test

// underRace: the race detector makes everything but the disk slow, so that fewer share a sync.
const underRace = true
