//go:build !(linux && (amd64 || arm64))

package backup

import "os"

func writeSoon(*os.File, int64, int64) error { return nil }

func writeNow(*os.File, int64, int64) error { return nil }
