package ese_test

import (
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"pillarbox/ese"
	"pillarbox/ese/vfs"
)

// Whatever file of a row of sets is damaged, cut or gone: the restore is refused, however little of the
// log would be missed.
func TestRestoreOfDamagedSets(t *testing.T) {
	fs := vfs.NewMem()
	s := openShop(t, fs)
	s.sell(300)
	full := s.backup(ese.BackupFull, fs, "/full")
	s.sell(100)
	inc := s.backup(ese.BackupIncremental, fs, "/inc")
	last := s.next.Load()
	rng := rand.New(rand.NewPCG(3, 3))
	sums := map[string]string{}
	var files []string
	for _, f := range full.Files {
		files = append(files, filepath.Join("/full", f.Name))
	}
	for _, f := range inc.Files {
		files = append(files, filepath.Join("/inc", f.Name))
		sums[filepath.Join("/inc", f.Name)] = f.SHA256
	}
	restore := func(fs vfs.FS) error {
		_, err := ese.Restore(t.Context(), ese.RestoreOptions{
			Info: full, Set: "/full", Logs: []string{"/inc"}, Sums: sums,
			Options: restored(fs, "/new"),
		})
		return err
	}
	whole := fs.CrashClone(rng)
	if err := restore(whole); err != nil {
		t.Fatal(err)
	}
	s.mustHave(rows(t, restored(whole, "/new")), 1, last)
	for _, name := range files {
		for how, harm := range map[string]func(vfs.FS, string) error{
			"flipped": flipByte(rng), "cut": truncate, "gone": vfs.FS.Remove,
		} {
			fs := fs.CrashClone(rng)
			if err := harm(fs, name); err != nil {
				t.Fatal(err)
			}
			if err := restore(fs); err == nil {
				t.Errorf("%s is %s, and the restore went through", name, how)
			}
		}
	}
}

// flipByte changes one byte, anywhere in the file.
func flipByte(rng *rand.Rand) func(vfs.FS, string) error {
	return func(fs vfs.FS, name string) error {
		return withFile(fs, name, func(f vfs.File, size int64) error {
			b, at := make([]byte, 1), rng.Int64N(size)
			_, err := f.ReadAt(b, at)
			if err == nil {
				b[0] ^= 0x10
				_, err = f.WriteAt(b, at)
			}
			return err
		})
	}
}

func truncate(fs vfs.FS, name string) error {
	return withFile(fs, name, func(f vfs.File, size int64) error { return f.Truncate(size - 1) })
}

func withFile(fs vfs.FS, name string, fn func(vfs.File, int64) error) error {
	f, err := fs.OpenFile(name, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	size, err := f.Size()
	if err == nil {
		err = fn(f, size)
	}
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	return err
}
