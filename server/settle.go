package server

import (
	"fmt"
	"os"
	"path"
	"path/filepath"

	"github.com/pelletier/go-toml/v2"
)

// settleConfig makes the config of another machine fit for the folder that it lies in: all data
// are in this folder, the certificates under tls, and neither schedule nor archive of backups is
// taken over, which the other machine may still write. A config that says so already stays as it is,
// with its comments.
func settleConfig(at string) error {
	text, err := os.ReadFile(at)
	if err != nil {
		return fmt.Errorf("the backup's config: %w", err)
	}
	var doc map[string]any
	if err := toml.Unmarshal(text, &doc); err != nil {
		return configError(at, err)
	}
	changed := drop(doc, "dir")
	if t, ok := doc["tls"].(map[string]any); ok {
		for _, key := range []string{"cert", "key", "ca"} {
			changed = moveInto(t, key, "tls") || changed
		}
	}
	if t, ok := doc["s3"].(map[string]any); ok {
		for _, key := range []string{"credentials", "ca"} {
			changed = moveInto(t, key, "s3") || changed
		}
	}
	if l, ok := doc["log"].(map[string]any); ok {
		changed = dropAbsolute(l, "file") || changed
	}
	changed = drop(doc, "backup") || changed
	groups, _ := doc["group"].([]any)
	for _, g := range groups {
		if g, ok := g.(map[string]any); ok {
			changed = dropAbsolute(g, "dir") || changed
			changed = dropAbsolute(g, "log_dir") || changed
			// Two servers must not write into one archive.
			changed = drop(g, "archive") || changed
		}
	}
	if !changed {
		return nil
	}
	if text, err = toml.Marshal(doc); err != nil {
		return fmt.Errorf("the backup's config: %w", err)
	}
	return replaceFile(at, text, 0o600)
}

// moveInto makes a path that of a file in a folder of the backup.
func moveInto(m map[string]any, key, folder string) bool {
	old, _ := m[key].(string)
	want := path.Join(folder, filepath.Base(old))
	if old == "" || old == want {
		return false
	}
	m[key] = want
	return true
}

func drop(m map[string]any, key string) bool {
	_, ok := m[key]
	delete(m, key)
	return ok
}

// dropAbsolute drops a path that means a place on the other machine.
func dropAbsolute(m map[string]any, key string) bool {
	p, _ := m[key].(string)
	return filepath.IsAbs(p) && drop(m, key)
}
