package main

import "runtime"

type versionCmd struct{}

// Run prints the version.
func (*versionCmd) Run(e *env) error {
	return e.printf("pillarbox %s (%s, %s/%s)\n", version, runtime.Version(), runtime.GOOS,
		runtime.GOARCH)
}
