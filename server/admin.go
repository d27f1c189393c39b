package server

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"strings"
	"sync"
	"time"

	"pillarbox/directory"
	"pillarbox/transport"
)

// Admin does what the command line asks for: a running server through its socket, else the
// storage group opened for the purpose.
type Admin interface {
	// Do runs one operation. in and out are the structs of this file that its name tells; nil
	// where there is none.
	Do(ctx context.Context, op Op, in, out any) error
	// Stream runs an operation whose result is a stream. Its end is that of the stream itself.
	Stream(ctx context.Context, op Op, in any) (io.ReadCloser, error)
	Close() error
}

// Op is an operation of Admin.
type Op string

// The operations with their input and output.
const (
	OpDomainAdd   Op = "domain.add"   // Name
	OpDomainList  Op = "domain.list"  // -> []string
	OpUserAdd     Op = "user.add"     // UserInput -> UserResult
	OpUserImport  Op = "user.import"  // []UserInput -> Imported
	OpUserList    Op = "user.list"    // -> []User
	OpUserPasswd  Op = "user.passwd"  // UserInput -> UserResult
	OpUserDisable Op = "user.disable" // UserInput
	OpUserDelete  Op = "user.delete"  // UserInput
	OpAliasAdd    Op = "alias.add"    // Alias
	OpAliasList   Op = "alias.list"   // -> []Alias
	OpAliasRemove Op = "alias.remove" // Name
	OpQueueList   Op = "queue.list"   // -> []QueueEntry
	OpQueueRetry  Op = "queue.retry"  // Name
	OpQueueDrop   Op = "queue.drop"   // Name
	OpStatus      Op = "status"       // -> Status
	OpIntegrity   Op = "isinteg"      // IntegrityInput -> Integrity
	OpLossReport  Op = "isinteg.loss" // LossInput -> []LossItem

	OpBackup        Op = "backup.make"    // BackupInput -> stream
	OpBackupConfirm Op = "backup.confirm" // Name
	OpBackupDrill   Op = "backup.drill"   // NotedDrill

	OpArchiveClaim Op = "archive.claim" // Name -> []ClaimedArchive

	OpRecover Op = "recover" // RecoverInput -> RecoverResult

	OpItemsList     Op = "items.list"     // RecoverableInput -> []RecoverableItem
	OpItemsUndelete Op = "items.undelete" // RecoverableInput -> Undeleted

	OpMailboxList    Op = "mailbox.list"    // MailboxInput -> []MailboxEntry
	OpMailboxRestore Op = "mailbox.restore" // MailboxInput -> MailboxRestored
	OpMailboxPurge   Op = "mailbox.purge"   // MailboxInput
	OpMailboxHold    Op = "mailbox.hold"    // MailboxInput
	OpMailboxKeep    Op = "mailbox.keep"    // MailboxInput
)

// Name names a domain, an alias or a queued message.
type Name struct {
	Name string `json:"name"`
}

// UserInput is what is to become of a user. Without a password one is made up.
type UserInput struct {
	Address  string `json:"address"`
	Password string `json:"password,omitempty"`
	Enable   bool   `json:"enable,omitempty"`
	// Database is where the mailbox of a new user is to live, as GROUP/DATABASE; empty is where the
	// config says.
	Database string `json:"database,omitempty"`
	// Line is where an import has it from.
	Line int `json:"line,omitempty"`
}

// UserResult tells the password that was made up.
type UserResult struct {
	Address   string `json:"address"`
	Password  string `json:"password"`
	Generated bool   `json:"generated"`
}

// Imported counts users.
type Imported struct {
	Added   int `json:"added"`
	Skipped int `json:"skipped"`
}

// User is one account.
type User struct {
	Address       string    `json:"address"`
	ID            string    `json:"id"`
	Disabled      bool      `json:"disabled"`
	Administrator bool      `json:"administrator"`
	Created       time.Time `json:"created"`
}

// Alias leads from an address to a user's.
type Alias struct {
	Alias  string `json:"alias"`
	Target string `json:"target"`
}

// QueueEntry is a message in the queue.
type QueueEntry struct {
	ID         string           `json:"id"`
	Created    time.Time        `json:"created"`
	Size       int64            `json:"size"`
	Sender     string           `json:"sender"`
	Recipients []QueueRecipient `json:"recipients"`
}

// QueueRecipient is a recipient still to serve.
type QueueRecipient struct {
	Address  string    `json:"address"`
	Attempts int       `json:"attempts"`
	Next     time.Time `json:"next"`
	Held     bool      `json:"held"`
	// Unmounted: it waits for the database of the mailbox.
	Unmounted bool   `json:"unmounted,omitempty"`
	Reply     string `json:"reply"`
}

// Do runs the operation on the Core itself, by the same code that the socket uses.
func (c *Core) Do(ctx context.Context, op Op, in, out any) error {
	b, err := json.Marshal(in)
	if err != nil {
		return err
	}
	res, err := c.answer(ctx, op, b)
	if err != nil || out == nil {
		return err
	}
	b, err = json.Marshal(res)
	if err != nil {
		return err
	}
	return json.Unmarshal(b, out)
}

// Stream runs the operation on the Core itself. Closing the stream ends and awaits it.
func (c *Core) Stream(ctx context.Context, op Op, in any) (io.ReadCloser, error) {
	b, err := json.Marshal(in)
	if err != nil {
		return nil, err
	}
	ctx, stop := context.WithCancel(ctx)
	r, w := io.Pipe()
	s := &coreStream{PipeReader: r, stop: stop}
	s.wg.Go(func() { w.CloseWithError(c.stream(ctx, op, b, w)) })
	return s, nil
}

// coreStream is a stream that the process itself makes.
type coreStream struct {
	*io.PipeReader
	stop context.CancelFunc
	wg   sync.WaitGroup
}

// Close ends the operation if it still runs.
func (s *coreStream) Close() error {
	s.stop()
	err := s.PipeReader.Close()
	s.wg.Wait()
	return err
}

// stream writes the result of an operation to w.
func (c *Core) stream(ctx context.Context, op Op, in []byte, w io.Writer) error {
	switch op {
	case OpMailboxMove, OpDatabaseMove:
		return c.streamMove(ctx, op, in, w)
	case OpBackup:
	default:
		return fmt.Errorf("%w: %s", errUnknownOp, op)
	}
	var b BackupInput
	if err := json.Unmarshal(in, &b); err != nil {
		return err
	}
	return c.streamBackup(ctx, b, w)
}

func (c *Core) answerBackup(op Op, in []byte) (any, error) {
	switch op {
	case OpBackupConfirm:
		var name Name
		if err := json.Unmarshal(in, &name); err != nil {
			return nil, err
		}
		return nil, c.confirmBackup(name.Name)
	case OpBackupDrill:
		drill := &NotedDrill{}
		if err := json.Unmarshal(in, drill); err != nil {
			return nil, err
		}
		return nil, c.backups.change(func(n *BackupNotes) { n.Drill = drill })
	}
	return nil, fmt.Errorf("%w: %s", errUnknownOp, op)
}

func (c *Core) answerArchive(ctx context.Context, op Op, in []byte) (any, error) {
	if op != OpArchiveClaim {
		return nil, fmt.Errorf("%w: %s", errUnknownOp, op)
	}
	var name Name
	if err := json.Unmarshal(in, &name); err != nil {
		return nil, err
	}
	return c.claimArchives(ctx, name.Name)
}

// errUnknownOp: a newer command line asks an older server.
var errUnknownOp = errors.New("the running server does not know this operation")

// answer runs an operation whose input is JSON. Its errors say what to do next, since only
// their text goes over the socket.
func (c *Core) answer(ctx context.Context, op Op, in []byte) (any, error) {
	out, err := c.run(ctx, op, in)
	return out, c.advise(err)
}

// advise is Advise with what only the config tells.
func (c *Core) advise(err error) error {
	var done *advisedError
	if !errors.Is(err, directory.ErrReadOnly) || errors.As(err, &done) {
		return Advise(err)
	}
	name := c.cfg.Groups[0].Name
	return &advisedError{err, fmt.Sprintf("mount or restore the first storage group: pillarbox group mount "+
		"%s, or pillarbox restore --from DIR --group %s", name, name)}
}

func (c *Core) run(ctx context.Context, op Op, in []byte) (any, error) {
	group, _, _ := strings.Cut(string(op), ".")
	switch group {
	case "domain", "alias":
		return c.answerNames(ctx, op, in)
	case "user":
		return c.answerUser(ctx, op, in)
	case "queue":
		return c.answerQueue(ctx, op, in)
	case "items":
		return c.answerItems(ctx, op, in)
	case "mailbox":
		return c.answerMailbox(ctx, op, in)
	case "group":
		return c.answerGroup(ctx, op, in)
	case "database":
		return c.answerDatabase(ctx, op, in)
	case "isinteg":
		if op == OpLossReport {
			return c.lossReport(ctx, in)
		}
		return c.integrity(ctx, in)
	case "status":
		return c.status()
	case "backup":
		return c.answerBackup(op, in)
	case "archive":
		return c.answerArchive(ctx, op, in)
	case "recover":
		var r RecoverInput
		if err := json.Unmarshal(in, &r); err != nil {
			return nil, err
		}
		return c.recoverItems(ctx, r)
	}
	return nil, fmt.Errorf("%w: %s", errUnknownOp, op)
}

func (c *Core) answerNames(ctx context.Context, op Op, in []byte) (any, error) {
	var name Name
	var alias Alias
	switch op {
	case OpDomainAdd:
		if err := json.Unmarshal(in, &name); err != nil {
			return nil, err
		}
		return nil, about(name.Name, c.dir.AddDomain(ctx, name.Name))
	case OpDomainList:
		return c.dir.Domains(), nil
	case OpAliasAdd:
		if err := json.Unmarshal(in, &alias); err != nil {
			return nil, err
		}
		return nil, about(alias.Alias, c.dir.AddAlias(ctx, alias.Alias, alias.Target))
	case OpAliasRemove:
		if err := json.Unmarshal(in, &name); err != nil {
			return nil, err
		}
		return nil, c.dir.RemoveAlias(ctx, name.Name)
	case OpAliasList:
		list := []Alias{}
		for _, a := range c.dir.Aliases() {
			r, err := c.dir.Recipient(a.ID)
			if err != nil {
				return nil, err
			}
			list = append(list, Alias{a.Address, r.Address})
		}
		return list, nil
	}
	return nil, fmt.Errorf("%w: %s", errUnknownOp, op)
}

// about says what an error is about, where it does not do so itself.
func about(name string, err error) error {
	if err == nil || strings.Contains(err.Error(), name) {
		return err
	}
	return fmt.Errorf("%s: %w", name, err)
}

func (c *Core) answerUser(ctx context.Context, op Op, in []byte) (any, error) {
	if op == OpUserList {
		return c.users(), nil
	}
	if err := c.dir.Writable(); err != nil {
		return nil, err // before the hashing, which takes longest
	}
	if op == OpUserImport {
		var users []UserInput
		if err := json.Unmarshal(in, &users); err != nil {
			return nil, err
		}
		return c.importUsers(ctx, users)
	}
	var u UserInput
	if err := json.Unmarshal(in, &u); err != nil {
		return nil, err
	}
	res := UserResult{Address: u.Address, Password: u.Password}
	if u.Password == "" {
		res.Password, res.Generated = randomPassword(), true
	}
	switch op {
	case OpUserAdd:
		home, err := c.homeOf(u.Database)
		if err == nil {
			_, err = c.dir.AddUserAt(ctx, u.Address, secretOf(res.Password), home)
		}
		return res, err
	case OpUserPasswd:
		return res, c.dir.SetPassword(ctx, u.Address, secretOf(res.Password))
	case OpUserDisable:
		return nil, c.dir.SetDisabled(ctx, u.Address, !u.Enable)
	case OpUserDelete:
		return nil, c.removeUser(ctx, u.Address)
	}
	return nil, fmt.Errorf("%w: %s", errUnknownOp, op)
}

func (c *Core) users() []User {
	list := []User{}
	for _, r := range c.dir.Users() {
		list = append(list, User{
			Address: r.Address, ID: fmt.Sprintf("%x", r.ID[:]), Disabled: r.Disabled,
			Administrator: r.Administrator, Created: r.Created,
		})
	}
	return list
}

func (c *Core) importUsers(ctx context.Context, users []UserInput) (Imported, error) {
	seq := iter.Seq2[directory.NewUser, error](func(yield func(directory.NewUser, error) bool) {
		for _, u := range users {
			n := directory.NewUser{Address: u.Address, Secret: secretOf(u.Password)}
			err := c.dir.CheckNew(n)
			if err != nil {
				err = fmt.Errorf("line %d: %w", u.Line, about(u.Address, err))
			}
			if !yield(n, err) {
				return
			}
		}
	})
	n, err := c.dir.AddUsers(ctx, seq, func(directory.Imported) {})
	return Imported{Added: n.Added, Skipped: n.Skipped}, err
}

// secretOf tells ready hashes from passwords.
func secretOf(s string) directory.Secret {
	for _, prefix := range []string{"$argon2id$", "$2a$", "$2b$", "$2y$"} {
		if strings.HasPrefix(s, prefix) {
			return directory.Secret{Hash: s}
		}
	}
	return directory.Secret{Password: s}
}

func (c *Core) answerQueue(ctx context.Context, op Op, in []byte) (any, error) {
	if op == OpQueueList {
		return c.queueEntries()
	}
	var name Name
	if err := json.Unmarshal(in, &name); err != nil {
		return nil, err
	}
	switch op {
	case OpQueueRetry:
		return nil, about(name.Name, c.queue.Retry(ctx, transport.QueueID(name.Name)))
	case OpQueueDrop:
		return nil, about(name.Name, c.queue.Drop(ctx, transport.QueueID(name.Name)))
	}
	return nil, fmt.Errorf("%w: %s", errUnknownOp, op)
}

// mostListed bounds the answer of queue.list.
const mostListed = 10_000

var errListFull = errors.New("list is full")

func (c *Core) queueEntries() ([]QueueEntry, error) {
	list := []QueueEntry{}
	err := c.queue.List(func(e *transport.Entry) error {
		if len(list) == mostListed {
			return errListFull
		}
		q := QueueEntry{
			ID: string(e.ID), Created: e.Created, Size: e.Size, Sender: e.Sender.String(),
		}
		for _, r := range e.Recipients {
			q.Recipients = append(q.Recipients, QueueRecipient{
				Address: r.Address.String(), Attempts: r.Attempts, Next: r.Next, Held: r.Held, Unmounted: r.Unmounted,
				Reply: strings.TrimSpace(r.LastHost + " " + r.LastReply),
			})
		}
		list = append(list, q)
		return nil
	})
	if errors.Is(err, errListFull) {
		err = nil
	}
	return list, err
}

// randomPassword has 16 letters and digits that look different in every typeface: 80 bits.
func randomPassword() string {
	const alphabet = "abcdefghijkmnpqrstuvwxyz23456789" // 32
	var b [16]byte
	_, _ = rand.Read(b[:]) // never fails (crypto/rand)
	for i := range b {
		b[i] = alphabet[b[i]%32]
	}
	return string(b[:])
}
