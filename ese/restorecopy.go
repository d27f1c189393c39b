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

// copyFile copies a file to a new place, durably, and returns the SHA-256 of what it read. Each part is hashed while
// it is written.
func copyFile(
	ctx context.Context, fsys vfs.FS, to string, in io.Reader, progress func(int),
) (sum string, err error) {
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
		n, rerr := io.ReadFull(in, buf)
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
		if rerr == io.EOF || rerr == io.ErrUnexpectedEOF { //nolint:errorlint // ReadFull's own
			return hex.EncodeToString(h.Sum(nil)), out.SyncData()
		}
		if rerr != nil {
			return "", fmt.Errorf("read what goes to %s: %w", to, rerr)
		}
	}
}
