package main

import (
	"strconv"
	"strings"
)

// command is a parsed command line.
type command struct {
	mode *mode
	path string
	opts map[string]string // by letter; those without a value have ""
	json bool
	bare bool // no banner
}

// has reports whether an option was given.
func (c *command) has(opt string) bool {
	_, ok := c.opts[opt]
	return ok
}

// flag is the name in an argument that begins with a slash or minus sign.
func flag(arg string) (string, bool) {
	if len(arg) < 2 || (arg[0] != '/' && arg[0] != '-') {
		return "", false
	}
	return arg[1:], true
}

// parse takes the mode, the file before or behind it, and options. An option's value is the next
// argument, or what follows the letter; with a slash only digits may follow directly, since
// anything else may be a path.
func parse(args []string, modes []mode) (*command, bool) {
	c := &command{opts: make(map[string]string)}
	args = c.general(args)
	for i := 0; i < len(args); i++ {
		if c.mode == nil {
			if m := findMode(args[i], modes); m != nil {
				c.mode = m
				continue
			}
		} else if n, ok := c.option(args[i:]); ok {
			i += n - 1
			continue
		}
		if c.path != "" || args[i] == "" {
			return nil, false
		}
		c.path = args[i]
	}
	return c, c.mode != nil && c.path != ""
}

// general takes out the options of all modes.
func (c *command) general(args []string) []string {
	var rest []string
	for _, a := range args {
		switch a {
		case "--json", "/json":
			c.json = true
		case "/o", "-o":
			c.bare = true
		default:
			rest = append(rest, a)
		}
	}
	return rest
}

func findMode(arg string, modes []mode) *mode {
	name, ok := flag(arg)
	for i := range modes {
		if ok && strings.EqualFold(name, modes[i].flag) {
			return &modes[i]
		}
	}
	return nil
}

// option takes an option of the mode and tells how many arguments it was.
func (c *command) option(args []string) (int, bool) {
	name, ok := flag(args[0])
	if !ok {
		return 0, false
	}
	letter, value := strings.ToLower(name[:1]), name[1:]
	switch {
	case strings.Contains(c.mode.plain, letter) && value == "":
		c.opts[letter] = ""
		return 1, true
	case !strings.Contains(c.mode.valued, letter):
		return 0, false
	case value != "" && (args[0][0] == '-' || isNumber(value)):
		c.opts[letter] = value
		return 1, true
	case value == "" && len(args) > 1:
		c.opts[letter] = args[1]
		return 2, true
	}
	return 0, false
}

func isNumber(s string) bool {
	_, err := strconv.ParseUint(s, 0, 64)
	return err == nil
}
