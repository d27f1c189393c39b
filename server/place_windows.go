package server

import (
	"io/fs"
	"os"
	"path/filepath"
)

// systemConfig is where the config file of an installed service lies.
func systemConfig() string {
	return filepath.Join(os.Getenv("ProgramData"), "Pillarbox", ConfigName)
}

// ownFolder: the temporary folder of Windows belongs to one user.
func ownFolder(fs.FileInfo) bool { return true }
