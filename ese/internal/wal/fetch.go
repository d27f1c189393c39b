package wal

import (
	"errors"
	"fmt"
	"io"
	"sync"

	"pillarbox/ese/internal/logrec"
	"pillarbox/ese/vfs"
)

// firstRead is how much a Fetcher reads before it knows the length: most records are shorter.
const firstRead = 1024

// Fetcher reads single records by position, for undo. It keeps the last file open.
type Fetcher struct {
	files files

	mu   sync.Mutex
	file vfs.File
	hdr  Header
}

// NewFetcher makes a Fetcher of the stream's files.
func NewFetcher(fsys vfs.FS, dir, base string) *Fetcher {
	return &Fetcher{files: files{fsys, dir, base}}
}

// At returns the record at pos, with a payload of its own. The record is verified alone: its
// checksum covers its position and contents, and the chain is not looked at.
func (f *Fetcher) At(pos logrec.LogPos) (Record, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.file == nil || f.hdr.Gen != pos.Generation() {
		f.drop()
		file, h, err := f.files.open(pos.Generation())
		if err != nil {
			return Record{}, err
		}
		f.file, f.hdr = file, h
	}
	off := pos.Offset()
	name := f.files.numbered(pos.Generation())
	if off < headerSize || off >= f.hdr.Bytes {
		return decodeAt(name, nil, pos)
	}
	b := make([]byte, min(firstRead, f.hdr.Bytes-off))
	n, err := f.file.ReadAt(b, off)
	if err != nil && !errors.Is(err, io.EOF) {
		return Record{}, fmt.Errorf("read log at %v: %w", pos, err)
	}
	b = b[:n]
	if want, ok := logrec.FrameLen(b); ok && want > n && off+int64(want) <= f.hdr.Bytes {
		b = append(b, make([]byte, want-n)...)
		if m, err := f.file.ReadAt(b[n:], off+int64(n)); m < want-n {
			return Record{}, fmt.Errorf("read log at %v: %w", pos, err)
		}
	}
	return decodeAt(name, b, pos)
}

func decodeAt(name string, b []byte, pos logrec.LogPos) (Record, error) {
	fr, ok := logrec.DecodeFrame(b, pos)
	if !ok {
		return Record{}, &logrec.CorruptError{
			File: name, Pos: pos, Reason: "no valid record", Err: logrec.ErrLogCorrupt,
		}
	}
	end := logrec.MakePos(pos.Generation(), pos.Offset()+int64(fr.Size))
	return Record{Type: fr.Type, Pos: pos, End: end, Back: fr.Back, Payload: fr.Payload}, nil
}

// drop closes the open file, which was only read.
func (f *Fetcher) drop() {
	if f.file != nil {
		_ = f.file.Close()
		f.file = nil
	}
}

// Close closes the open file.
func (f *Fetcher) Close() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.drop()
	return nil
}
