package server

import (
	"os"

	"pillarbox/archive"
	"pillarbox/storage"
)

// settleInto makes the config of the backup fit for a new folder, and tells each restore of a group
// where the other machine had its archive.
func settleInto(path string, parts []*restore) (*Config, error) {
	old, err := LoadConfig(path)
	if err != nil {
		return nil, err
	}
	if err := settleConfig(path); err != nil {
		return nil, err
	}
	cfg, err := LoadConfig(path)
	if err != nil {
		return nil, err
	}
	if err := storage.Settle(cfg.Dir); err != nil {
		return nil, err
	}
	for _, r := range parts {
		r.cfg = cfg
		r.archive = old.archivePlace(r.o.Group)
		if r.archive != "" && !archive.IsBucket(r.archive) {
			if info, err := os.Stat(r.archive); err != nil || !info.IsDir() {
				r.archive = "" // a folder of the other machine; --logs says where it is now
			}
		}
	}
	return cfg, nil
}
