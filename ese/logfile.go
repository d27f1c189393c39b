package ese

import (
	"time"

	"pillarbox/ese/internal/wal"
	"pillarbox/ese/vfs"
)

// LogFileInfo says what a log file holds, wherever it lies.
type LogFileInfo struct {
	Signature string
	Gen       uint32
	// Closed tells that nothing more comes into it.
	Closed bool
	// LastCommit is the time of the newest commit in it; zero when it has none.
	LastCommit time.Time
}

// ReadLogFile reads a log file up to where its records chain.
func ReadLogFile(fsys vfs.FS, path string) (*LogFileInfo, error) {
	s, err := wal.ReadSource(fsys, path)
	if err != nil {
		return nil, err
	}
	i := &LogFileInfo{Signature: signatureText(s.Header.Sign), Gen: s.Header.Gen, Closed: s.Closed}
	if s.LastCommit != 0 {
		i.LastCommit = time.UnixMilli(s.LastCommit).UTC()
	}
	return i, nil
}
