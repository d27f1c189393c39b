//go:build !linux

package program

import "errors"

func openTerminal() (*terminal, error) { return nil, errors.ErrUnsupported }
