package imap

import (
	"strings"
)

// maxFolderName bounds a name, in bytes of UTF-8.
const maxFolderName = 255

// folderArg reads " mailbox" for a command that makes or changes a folder, and judges the name.
func (r *request) folderArg() (string, error) {
	if err := r.space(); err != nil {
		return "", err
	}
	name, err := r.mailbox()
	if err != nil {
		return "", err
	}
	// "A trailing delimiter is a declaration that names will be created under it" (6.3.3).
	name = strings.TrimSuffix(name, "/")
	if name == "" || len(name) > maxFolderName || strings.Contains("/"+name+"/", "//") ||
		strings.ContainsAny(name, "*%") {
		return "", no(CodeCannot, "Folder name is not possible")
	}
	return name, nil
}

// create is CREATE (RFC 3501 6.3.3) with USE (RFC 6154 3).
func (c *conn) create(req *request) error {
	name, err := req.folderArg()
	if err != nil {
		return err
	}
	var options CreateOptions
	if req.take(' ') {
		if options.SpecialUse, err = req.specialUse(); err != nil {
			return err
		}
	}
	if err = req.end(); err != nil {
		return err
	}
	if name == "INBOX" {
		return no(CodeAlreadyExists, "INBOX exists always")
	}
	return c.session.Create(c.ctx, name, options)
}

// specialUse reads "(USE (\Sent))".
func (r *request) specialUse() (string, error) {
	if err := r.need('('); err != nil {
		return "", err
	}
	if !r.word("USE") {
		return "", bad("unknown parameter")
	}
	if err := r.space(); err != nil {
		return "", err
	}
	var uses []string
	err := r.list(func() error {
		if err := r.need('\\'); err != nil {
			return err
		}
		use, err := r.keyword()
		uses = append(uses, use)
		return err
	})
	if err != nil {
		return "", err
	}
	if err = r.need(')'); err != nil {
		return "", err
	}
	if len(uses) != 1 {
		return "", no("USEATTR", "One special use for a folder")
	}
	for _, known := range specialUses() {
		if strings.EqualFold(known, `\`+uses[0]) {
			return known, nil
		}
	}
	return "", no("USEATTR", "Unknown special use")
}

func specialUses() []string {
	return []string{`\All`, `\Archive`, `\Drafts`, `\Flagged`, `\Junk`, `\Sent`, `\Trash`}
}

// deleteFolder is DELETE (RFC 3501 6.3.4).
func (c *conn) deleteFolder(req *request) error {
	name, err := req.folderArg()
	if err != nil {
		return err
	}
	if err = req.end(); err != nil {
		return err
	}
	if name == "INBOX" {
		return no(CodeCannot, "INBOX cannot be deleted")
	}
	return c.session.Delete(c.ctx, name)
}

// rename is RENAME (RFC 3501 6.3.5).
func (c *conn) rename(req *request) error {
	from, err := req.folderArg()
	if err != nil {
		return err
	}
	to, err := req.folderArg()
	if err != nil {
		return err
	}
	if err = req.end(); err != nil {
		return err
	}
	switch {
	case to == "INBOX" || to == from:
		return no(CodeAlreadyExists, "Folder exists")
	case strings.HasPrefix(to, from+"/") && from != "INBOX":
		return no(CodeCannot, "A folder cannot go into itself")
	}
	return c.session.Rename(c.ctx, from, to)
}

// subscribe is SUBSCRIBE (RFC 3501 6.3.6).
func (c *conn) subscribe(req *request) error {
	name, err := req.folderArg()
	if err != nil {
		return err
	}
	if err = req.end(); err != nil {
		return err
	}
	return c.session.Subscribe(c.ctx, name)
}

// unsubscribe is UNSUBSCRIBE (RFC 3501 6.3.7).
func (c *conn) unsubscribe(req *request) error {
	name, err := req.folderArg()
	if err != nil {
		return err
	}
	if err = req.end(); err != nil {
		return err
	}
	return c.session.Unsubscribe(c.ctx, name)
}
