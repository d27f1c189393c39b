package ese

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"

	"pillarbox/ese/vfs"
)

// copyFile copies a file, durably, and returns the SHA-256 of what it read. Each part is hashed while
// it is written.
func copyFile(
	ctx context.Context, fsys vfs.FS, to, from string, progress func(int),
) (sum string, err error) {
	in, err := fsys.OpenFile(from, os.O_RDONLY, 0)
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, in.Close()) }()
	out, err := fsys.OpenFile(to, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, out.Close()) }()
	h, hashed := sha256.New(), make(chan struct{})
	buf := make([]byte, copyBytes)
	for off := int64(0); ; {
		if err := ctx.Err(); err != nil {
			return "", err
		}
		n, rerr := in.ReadAt(buf, off)
		go func() {
			h.Write(buf[:n])
			hashed <- struct{}{}
		}()
		_, err := out.WriteAt(buf[:n], off)
		<-hashed
		if err != nil {
			return "", fmt.Errorf("write %s: %w", to, err)
		}
		off += int64(n)
		progress(n)
		if errors.Is(rerr, io.EOF) {
			return hex.EncodeToString(h.Sum(nil)), out.SyncData()
		}
		if rerr != nil {
			return "", fmt.Errorf("read %s: %w", from, rerr)
		}
	}
}
