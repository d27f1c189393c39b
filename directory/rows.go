package directory

import (
	"errors"
	"time"

	"pillarbox/ese"
)

// Version numbers the states of a directory. It is the time of the last change in microseconds since
// 1970, or one more than the version before where the clock has not gone on: so that the versions of
// two histories, of which a restore made one end, differ too. 0 is none.
type Version int64

// Time is that of the last change.
func (v Version) Time() time.Time { return time.UnixMicro(int64(v)) }

// readVersion is that of the directory or copy that the tables hold.
func (ts *tables) readVersion(tx *ese.Tx) (Version, error) {
	if ts.state.t == nil {
		return 0, nil
	}
	var v ese.RowView
	var buf []byte
	ok, err := tx.Get(ts.state.t, &v, &buf, ese.Int(0))
	if err != nil || !ok {
		return 0, err
	}
	return Version(v.Int(ts.state.version)), nil
}

func (ts *tables) writeVersion(tx *ese.Tx, v Version) error {
	t := &ts.state
	row := t.t.NewRow().Set(t.id, ese.Int(0)).Set(t.version, ese.Int(v))
	return upsert(tx, row, ese.Int(0))
}

// upsert writes a row that has all columns, whether there is one of its key or not.
func upsert(tx *ese.Tx, row *ese.Row, key ...ese.Value) error {
	err := tx.Update(row, key...)
	if errors.Is(err, ese.ErrNotFound) {
		err = tx.Insert(row)
	}
	return err
}

func (ts *tables) readDomain(v *ese.RowView) (name string, created time.Time) {
	t := &ts.domain
	return v.String(t.name), time.UnixMilli(v.Int(t.created))
}

func (ts *tables) domainRow(name string, created time.Time) *ese.Row {
	t := &ts.domain
	return t.t.NewRow().Set(t.name, ese.String(name)).Set(t.created, ese.Int(created.UnixMilli()))
}

func (ts *tables) readAlias(v *ese.RowView) (key string, a Alias) {
	t := &ts.alias
	return v.String(t.key), Alias{v.String(t.address), GUID(v.Bytes(t.guid))}
}

func (ts *tables) aliasRow(key string, a *Alias) *ese.Row {
	t := &ts.alias
	return t.t.NewRow().Set(t.key, ese.String(key)).Set(t.address, ese.String(a.Address)).
		Set(t.guid, ese.Bytes(a.ID[:]))
}

// readRecipient reads a recipient, without its credential.
func (ts *tables) readRecipient(v *ese.RowView) *entry {
	t := &ts.recipient
	bits := v.Int(t.bits)
	e := &entry{key: v.String(t.key), Recipient: Recipient{
		ID: GUID(v.Bytes(t.guid)), Kind: Kind(v.Int(t.kind)), Address: v.String(t.address),
		Target: v.String(t.target), Disabled: bits&bitDisabled != 0,
		Administrator: bits&bitAdministrator != 0, Created: time.UnixMilli(v.Int(t.created)),
	}}
	if t.home != nil {
		e.Home = v.String(t.home)
	}
	return e
}

// recipientRow sets all columns that an entry has.
func (ts *tables) recipientRow(e *entry) *ese.Row {
	t := &ts.recipient
	return t.t.NewRow().Set(t.guid, ese.Bytes(e.ID[:])).Set(t.kind, ese.Int(e.Kind)).
		Set(t.bits, ese.Int(e.bits())).Set(t.created, ese.Int(e.Created.UnixMilli())).
		Set(t.address, ese.String(e.Address)).Set(t.key, ese.String(e.key)).
		Set(t.target, optional([]byte(e.Target))).Set(t.home, optional([]byte(e.certainHome())))
}

// optional is a value that is null where it is empty.
func optional(b []byte) ese.Value {
	if len(b) == 0 {
		return ese.Null()
	}
	return ese.Bytes(b)
}

func (ts *tables) insertUser(tx *ese.Tx, e *entry) error {
	if err := tx.Insert(ts.recipientRow(e)); err != nil {
		return err
	}
	return tx.Insert(ts.credentialRow(e.ID, &e.cred))
}

func (ts *tables) readCredential(v *ese.RowView) (GUID, credential) {
	t := &ts.credential
	return GUID(v.Bytes(t.guid)), credential{
		hash: v.String(t.hash), changed: time.UnixMilli(v.Int(t.changed)),
		iterations: uint32(v.Int(t.iterations)),
		salt:       append([]byte(nil), v.Bytes(t.scramSalt)...),
		stored:     append([]byte(nil), v.Bytes(t.storedKey)...),
		server:     append([]byte(nil), v.Bytes(t.serverKey)...),
	}
}

// credentialRow sets all columns of a credential, so that it serves inserts and updates.
func (ts *tables) credentialRow(id GUID, c *credential) *ese.Row {
	t := &ts.credential
	return t.t.NewRow().Set(t.guid, ese.Bytes(id[:])).Set(t.number, ese.Int(0)).
		Set(t.changed, ese.Int(c.changed.UnixMilli())).Set(t.iterations, ese.Int(c.iterations)).
		Set(t.hash, ese.String(c.hash)).Set(t.scramSalt, optional(c.salt)).
		Set(t.storedKey, optional(c.stored)).Set(t.serverKey, optional(c.server))
}

// removeCredentials removes the password and what else a user logs in with.
func (ts *tables) removeCredentials(tx *ese.Tx, id GUID) error {
	t := &ts.credential
	c := tx.Cursor(t.t.Primary())
	if err := c.Prefix(ese.Bytes(id[:])); err != nil {
		return err
	}
	var numbers []int64
	ok, err := c.First()
	for ; ok && err == nil; ok, err = c.Next() {
		numbers = append(numbers, c.Row().Int(t.number))
	}
	for _, n := range numbers {
		if err != nil {
			return err
		}
		err = tx.Delete(t.t, ese.Bytes(id[:]), ese.Int(n))
	}
	return err
}
