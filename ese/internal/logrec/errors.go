package logrec

import (
	"errors"
	"fmt"
)

// States of a log, with the numbers operators know from ESE.
var (
	ErrLogCorrupt        = errors.New("log file corrupt (-501)")
	ErrLogVersion        = errors.New("log file version not known (-514)")
	ErrLogSequence       = errors.New("log files do not follow each other (-515)")
	ErrMissingLog        = errors.New("log file missing (-528)")
	ErrLogDiskFull       = errors.New("log disk full (-529)")
	ErrLogSignature      = errors.New("log file of another stream (-530)")
	ErrCheckpointCorrupt = errors.New("checkpoint file corrupt (-533)")
)

// CorruptError tells where in the log files trouble was met.
type CorruptError struct {
	File   string
	Pos    LogPos // 0 when the whole file is meant
	Reason string
	Err    error // one of the sentinels above
}

func (e *CorruptError) Error() string {
	if e.Pos == 0 {
		return fmt.Sprintf("%s: %s: %v", e.File, e.Reason, e.Err)
	}
	return fmt.Sprintf("%s at %v: %s: %v", e.File, e.Pos, e.Reason, e.Err)
}

// Unwrap returns the sentinel.
func (e *CorruptError) Unwrap() error { return e.Err }
