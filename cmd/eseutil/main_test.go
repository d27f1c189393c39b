package main

import (
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
		{"-MH " + missing, 1, "terminated with error", ""},
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
