package ese

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"

	"pillarbox/ese/internal/version"
	"pillarbox/ese/vfs"
)

// versionFile is the temporary file for earlier states of rows. It is of no use after the
// instance, and not synced.
func versionFile(o *Options) string { return filepath.Join(o.Dir, o.Base+"ver.tmp") }

func versionLimits(o *Options) version.Limits {
	l := version.Limits{
		Memory: o.VersionBytes, File: o.VersionFileBytes, Tx: o.TxVersionBytes, Repeat: o.Manual,
	}
	if l.File > 0 && !o.ReadOnly {
		l.Open = func() (vfs.File, error) {
			return o.FS.OpenFile(versionFile(o), os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o600)
		}
	}
	return l
}

// removeVersionFile removes the file, which a crash may have left.
func removeVersionFile(o *Options) error {
	if err := o.FS.Remove(versionFile(o)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}
