package imap

import (
	"bytes"
	"strings"
)

// pollMode tells what news a command may bring before its tagged response.
type pollMode uint8

const (
	pollNever     pollMode = iota
	pollNoExpunge          // FETCH, STORE, SEARCH (RFC 3501 7.4.1)
	pollAll
)

// command is one entry of the table.
type command struct {
	states state
	poll   pollMode
	run    func(*conn, *request) error
}

// commandTable lists all commands. UID forms are entries of their own.
func commandTable() map[string]command {
	const (
		anyState = stateNotAuthenticated | stateAuthenticated | stateSelected
		before   = stateNotAuthenticated
		after    = stateAuthenticated | stateSelected
		selected = stateSelected
	)
	return map[string]command{
		"CAPABILITY": {anyState, pollAll, (*conn).capability},
		"NOOP":       {anyState, pollAll, (*conn).noop},
		"LOGOUT":     {anyState, pollNever, (*conn).logout},
		"ID":         {anyState, pollAll, (*conn).id},

		"STARTTLS":     {before, pollNever, (*conn).startTLS},
		"LOGIN":        {before, pollNever, (*conn).login},
		"AUTHENTICATE": {before, pollNever, (*conn).authenticate},

		"ENABLE":      {after, pollAll, (*conn).enable},
		"NAMESPACE":   {after, pollAll, (*conn).namespace},
		"SELECT":      {after, pollNever, (*conn).selectFolder},
		"EXAMINE":     {after, pollNever, (*conn).examine},
		"CREATE":      {after, pollAll, (*conn).create},
		"DELETE":      {after, pollAll, (*conn).deleteFolder},
		"RENAME":      {after, pollAll, (*conn).rename},
		"SUBSCRIBE":   {after, pollAll, (*conn).subscribe},
		"UNSUBSCRIBE": {after, pollAll, (*conn).unsubscribe},
		"LIST":        {after, pollAll, (*conn).list},
		"LSUB":        {after, pollAll, (*conn).lsub},
		"STATUS":      {after, pollAll, (*conn).status},
		"APPEND":      {after, pollAll, (*conn).appendMessage},
		"IDLE":        {after, pollAll, (*conn).idle},

		"CHECK":    {selected, pollAll, (*conn).noop},
		"CLOSE":    {selected, pollNever, (*conn).closeFolder},
		"UNSELECT": {selected, pollNever, (*conn).unselect},
		"EXPUNGE":  {selected, pollAll, (*conn).expunge},
		"SEARCH":   {selected, pollNoExpunge, (*conn).search},
		"FETCH":    {selected, pollNoExpunge, (*conn).fetch},
		"STORE":    {selected, pollNoExpunge, (*conn).store},
		"COPY":     {selected, pollAll, (*conn).copyMessages},
		"MOVE":     {selected, pollAll, (*conn).moveMessages},

		"UID EXPUNGE": {selected, pollAll, (*conn).expunge},
		"UID SEARCH":  {selected, pollNoExpunge, (*conn).search},
		"UID FETCH":   {selected, pollNoExpunge, (*conn).fetch},
		"UID STORE":   {selected, pollNoExpunge, (*conn).store},
		"UID COPY":    {selected, pollAll, (*conn).copyMessages},
		"UID MOVE":    {selected, pollAll, (*conn).moveMessages},
	}
}

// request is one command as read.
type request struct {
	tag  string
	name string // in capitals, with "UID " in front of the UID forms
	uid  bool
	cond command
	parser
	args int // where the arguments begin

	// The message of APPEND, not yet read.
	hasLiteral bool
	literal    int64
	nonSync    bool

	okCode string // response code of the tagged OK
}

// parseHead finds tag and name at the start of the first line. A command without them keeps an
// empty name.
func (r *request) parseHead(line []byte) {
	line = bytes.TrimRight(line, "\r\n")
	tag, rest, ok := bytes.Cut(line, []byte(" "))
	if !ok || len(tag) == 0 || len(tag) > 255 || !isTag(tag) {
		return
	}
	r.tag = string(tag)
	word := func() string {
		w, tail, found := bytes.Cut(rest, []byte(" "))
		rest = tail
		r.args = len(line) - len(rest)
		if found {
			r.args-- // arguments begin with their blank
		}
		return strings.ToUpper(string(w[:min(len(w), 32)]))
	}
	r.name = word()
	if r.name == "UID" {
		r.uid = true
		r.name = "UID " + word()
	}
}

// isTag: any ASTRING-CHAR but "+" (RFC 3501 9).
func isTag(tag []byte) bool {
	for _, c := range tag {
		if !isAstringChar(c) || c == '+' {
			return false
		}
	}
	return true
}

// setText gives the whole command to the parser, which stands in front of the arguments.
func (r *request) setText(b []byte) {
	r.parser = parser{b: b, pos: min(r.args, len(b))}
}
