package main

import (
	"encoding/json"
	"path/filepath"
	"strings"
	"testing"
)

func TestCommandLine(t *testing.T) {
	missing := filepath.Join(t.TempDir(), "missing.edb")
	tests := []struct {
		args   string
		code   int
		stdout string
		stderr string
	}{
		{"", 2, "", "Usage:"},
		{"/q file", 2, "", "Usage:"},
		{"/mh", 2, "", "Usage:"},
		{"/mh " + missing, 1, "terminated with error", ""},
		{"-MH " + missing, 1, "terminated with error -1811 (JET_errFileNotFound, open ", ""},
		{"/mp " + missing + " /p1", 1, "terminated with error -1811", ""},
		{missing + " /k", 1, "Initiating CHECKSUM mode...", ""},
		{"-mk " + missing, 1, "terminated with error", ""},
	}
	for _, tt := range tests {
		var stdout, stderr strings.Builder
		code := run(t.Context(), strings.Fields(tt.args), &stdout, &stderr)
		if code != tt.code || !strings.Contains(stdout.String(), tt.stdout) ||
			!strings.Contains(stderr.String(), tt.stderr) {
			t.Errorf("eseutil %s: code %d\n%s%s", tt.args, code, stdout.String(), stderr.String())
		}
	}
}

func TestParse(t *testing.T) {
	tests := []struct {
		args, mode, path string
		opts             map[string]string
	}{
		{"/mh a.edb", "mh", "a.edb", nil},
		{"/tmp/a.edb -K", "k", "/tmp/a.edb", nil},
		{"/m a.edb /p12", "m", "a.edb", map[string]string{"p": "12"}},
		{"-m a.edb -p 12", "m", "a.edb", map[string]string{"p": "12"}},
		{
			"/r E00 /l /logs /s sys -ddb /i", "r", "E00",
			map[string]string{"l": "/logs", "s": "sys", "d": "db", "i": ""},
		},
	}
	for _, tt := range tests {
		c, ok := parse(strings.Fields(tt.args), modes())
		if !ok || c.mode.flag != tt.mode || c.path != tt.path || len(c.opts) != len(tt.opts) {
			t.Errorf("%s: %+v, %v", tt.args, c, ok)
			continue
		}
		for k, v := range tt.opts {
			if c.opts[k] != v {
				t.Errorf("%s: option %s is %q", tt.args, k, c.opts[k])
			}
		}
	}
}

func TestJSON(t *testing.T) {
	var stdout, stderr strings.Builder
	code := run(t.Context(), []string{"/mh", "missing.edb", "--json"}, &stdout, &stderr)
	var r struct{ Mode, File, Error string }
	if err := json.Unmarshal([]byte(stdout.String()), &r); err != nil || code != 1 ||
		r.Mode != "mh" || r.File != "missing.edb" || r.Error == "" {
		t.Errorf("%d %v %s", code, err, stdout.String())
	}
}
