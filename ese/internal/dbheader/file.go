package dbheader

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"pillarbox/ese/vfs"
)

// Copy is one of the two places of the header.
type Copy uint8

// The copies.
const (
	Primary Copy = iota
	Shadow
)

// String names the copy.
func (c Copy) String() string {
	if c == Shadow {
		return "shadow"
	}
	return "primary"
}

// Read returns the header and the copy it was taken from. When both copies are bad the
// error is the primary's.
func Read(f vfs.File) (Header, Copy, error) {
	h, err := readPrimary(f)
	if err == nil {
		return h, Primary, nil
	}
	// A damaged primary cannot be trusted for the page size, so every size is tried.
	for size := minPage; size <= maxPage; size *= 2 {
		buf := make([]byte, size)
		if _, readErr := f.ReadAt(buf, int64(size)); readErr != nil {
			if errors.Is(readErr, io.EOF) {
				break
			}
			return Header{}, Primary, fmt.Errorf("read header: %w", readErr)
		}
		if h, shadowErr := Parse(buf); shadowErr == nil {
			return h, Shadow, nil
		}
	}
	return Header{}, Primary, fmt.Errorf("read header: %w", err)
}

func readPrimary(f vfs.File) (Header, error) {
	buf := make([]byte, minPage, maxPage)
	if _, err := f.ReadAt(buf, 0); err != nil {
		return Header{}, notDatabaseAtEOF(err)
	}
	size := binary.LittleEndian.Uint32(buf[236:])
	if size == 0 {
		size = 4096
	}
	if binary.LittleEndian.Uint32(buf[4:]) != magic {
		return Header{}, ErrNotDatabase
	}
	if !validPageSize(size) {
		return Header{}, fmt.Errorf("%w: %d", ErrPageSize, size)
	}
	buf = buf[:size]
	if _, err := f.ReadAt(buf, 0); err != nil {
		return Header{}, notDatabaseAtEOF(err)
	}
	h, err := Parse(buf)
	if err == nil && h.FileType == FileTypeStream {
		return h, fmt.Errorf("%w: it is a stream file", ErrNotDatabase)
	}
	return h, err
}

func notDatabaseAtEOF(err error) error {
	if errors.Is(err, io.EOF) {
		return fmt.Errorf("%w: the file ends in its header", ErrNotDatabase)
	}
	return err
}

// Write makes h durable in both copies. The one that a reader takes comes last: the primary,
// unless an earlier writing was cut in it. What the file holds now is durable.
func Write(f vfs.File, h Header) error {
	if !validPageSize(h.PageSize) {
		return fmt.Errorf("write header: %w: %d", ErrPageSize, h.PageSize)
	}
	buf := make([]byte, h.PageSize)
	h.Encode(buf)
	order := [2]int64{int64(len(buf)), 0}
	if _, err := readPrimary(f); err != nil {
		order = [2]int64{0, int64(len(buf))}
	}
	for _, at := range order {
		if _, err := f.WriteAt(buf, at); err != nil {
			return fmt.Errorf("write header: %w", err)
		}
		if err := f.SyncData(); err != nil {
			return fmt.Errorf("write header: %w", err)
		}
	}
	return nil
}

// WriteOne makes h durable in one copy at the start of the file: a .stm file has no more.
func WriteOne(f vfs.File, h Header) error {
	buf := make([]byte, h.PageSize)
	h.Encode(buf)
	if _, err := f.WriteAt(buf, 0); err != nil {
		return fmt.Errorf("write header: %w", err)
	}
	if err := f.SyncData(); err != nil {
		return fmt.Errorf("write header: %w", err)
	}
	return nil
}
