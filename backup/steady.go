package backup

import "os"

// steadyBytes is how much of a file is left to the system at a time.
const steadyBytes = 8 << 20

// steady writes a file that nobody will read soon. The system is to write it at once, and to keep none
// of it in memory: else gigabytes of it come to the disk together, where the server's log waits behind
// them, and take the place of pages that the server reads.
type steady struct {
	file    *os.File
	n       int64
	begun   int64 // to here the system was told to write
	written int64 // to here it has
}

func (s *steady) Write(p []byte) (int, error) {
	n, err := s.file.Write(p)
	s.n += int64(n)
	if err != nil || s.n-s.begun < steadyBytes {
		return n, err
	}
	err = writeSoon(s.file, s.begun, s.n)
	if err == nil && s.written < s.begun {
		err = writeNow(s.file, s.written, s.begun)
		s.written = s.begun
	}
	s.begun = s.n
	return n, err
}
