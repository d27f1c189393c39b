package server

import (
	"os"
	"path/filepath"
)

// systemConfig is where the config file of an installed service lies.
func systemConfig() string {
	return filepath.Join(os.Getenv("ProgramData"), "Pillarbox", ConfigName)
}
