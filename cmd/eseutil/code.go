package main

import (
	"errors"
	"io/fs"
	"regexp"
	"strconv"

	"pillarbox/ese"
)

// codeName is the name that operators know a number by.
func codeName(code int) string {
	switch code {
	case -501:
		return "JET_errLogFileCorrupt"
	case -514:
		return "JET_errBadLogVersion"
	case -515:
		return "JET_errInvalidLogSequence"
	case -528:
		return "JET_errMissingLogFile"
	case -529:
		return "JET_errLogDiskFull"
	case -530:
		return "JET_errBadLogSignature"
	case -531:
		return "JET_errBadDbSignature"
	case -550:
		return "JET_errDatabaseDirtyShutdown"
	case -566:
		return "JET_errDbTimeTooOld"
	case -567:
		return "JET_errDbTimeTooNew"
	case -1018:
		return "JET_errReadVerifyFailure"
	case -1032:
		return "JET_errFileAccessDenied"
	case -1119:
		return "JET_errReadLostFlushVerifyFailure"
	case -1206:
		return "JET_errDatabaseCorrupted"
	case -1213:
		return "JET_errPageSizeMismatch"
	case -1216:
		return "JET_errAttachedDatabaseMismatch"
	case -1808:
		return "JET_errDiskFull"
	case -1811:
		return "JET_errFileNotFound"
	}
	return ""
}

var codeInText = regexp.MustCompile(`\((-\d{3,4})\)`)

// codeOf is the number of an error; 0 when it has none.
func codeOf(err error) int {
	if m := codeInText.FindStringSubmatch(err.Error()); m != nil {
		n, _ := strconv.Atoi(m[1])
		return n
	}
	switch {
	case errors.Is(err, ese.ErrLocked), errors.Is(err, fs.ErrPermission):
		return -1032
	case errors.Is(err, fs.ErrNotExist):
		return -1811
	}
	return 0
}

// describe is an error as the last line tells it.
func describe(err error) string {
	code := codeOf(err)
	if code == 0 {
		return "(" + err.Error() + ")"
	}
	text := strconv.Itoa(code) + " ("
	if name := codeName(code); name != "" {
		text += name + ", "
	}
	return text + err.Error() + ")"
}
