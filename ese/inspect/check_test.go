package inspect

import (
	"context"
	"testing"

	"pillarbox/ese/internal/dbheader"
)

func TestCheckSamples(t *testing.T) {
	for name, f := range samples(t) {
		t.Run(name, func(t *testing.T) {
			r, err := Check(context.Background(), f, CheckOptions{})
			if err != nil {
				t.Fatal(err)
			}
			for _, finding := range r.Findings {
				if r.State == dbheader.CleanShutdown {
					t.Error(finding)
				} else {
					t.Log(finding)
				}
			}
			t.Logf("%+v", *r)
		})
	}
}
