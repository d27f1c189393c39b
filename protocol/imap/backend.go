package imap

import (
	"context"
	"crypto/tls"
	"io"
	"net"
	"time"
)

// UID is a message's unique identifier in a folder.
type UID uint32

// ModSeq is a change number (RFC 7162).
type ModSeq uint64

// Flag is a system flag with its backslash, or a keyword.
type Flag string

// System flags (RFC 3501 2.3.2).
const (
	Seen     Flag = `\Seen`
	Answered Flag = `\Answered`
	Flagged  Flag = `\Flagged`
	Deleted  Flag = `\Deleted`
	Draft    Flag = `\Draft`
)

// ConnInfo tells a Backend who is there.
type ConnInfo struct {
	Remote, Local net.Addr
	// TLS is nil in clear.
	TLS *tls.ConnectionState
	// End makes the connection end behind the command under way: the login is good no more.
	End func()
}

// Backend checks users. An *Error that it or the others return is sent to the client; any other
// error is logged and becomes NO [SERVERBUG].
type Backend interface {
	Login(ctx context.Context, user, password string, info ConnInfo) (Session, error)
}

// Session is one user's mail. Names are NFC, with "/" between levels, and INBOX in capitals.
// A Session is used by one goroutine at a time.
type Session interface {
	// List returns all folders of the user, and the subscribed names that are no folders, in
	// the order they should be shown. The server does the matching.
	List(ctx context.Context) ([]ListEntry, error)
	Create(ctx context.Context, name string, options CreateOptions) error
	Delete(ctx context.Context, name string) error
	Rename(ctx context.Context, from, to string) error
	Subscribe(ctx context.Context, name string) error
	Unsubscribe(ctx context.Context, name string) error
	Status(ctx context.Context, name string) (*StatusData, error)
	// Append stores a message, which it reads from r to io.EOF before it commits; any other
	// error of r means that nothing may be stored.
	Append(ctx context.Context, name string, options AppendOptions, r io.Reader) (AppendResult, error)
	// Select opens a folder. A missing one is an *Error with CodeNonExistent.
	Select(ctx context.Context, name string, options SelectOptions) (Mailbox, *SelectData, error)
	Close() error
}

// Mailbox is a selected folder.
type Mailbox interface {
	// Changes tells what happened after the state with the number since.
	Changes(ctx context.Context, since ModSeq) (*Changes, error)
	// Wait returns when something may have changed after since, or with the error of ctx. It
	// runs beside no other method.
	Wait(ctx context.Context, since ModSeq) error
	// Fetch calls fn for each message of the set that exists, in UID order. fn may block on the
	// network for minutes: no lock or transaction may be held while it runs. The Message is
	// valid until fn returns. An error of fn ends the walk and is returned.
	Fetch(ctx context.Context, set UIDSet, want FetchWant, fn func(*Message) error) error
	// Store changes flags of those messages of the set that exist.
	Store(ctx context.Context, set UIDSet, change StoreChange) (*StoreResult, error)
	// Expunge removes the messages of the set that have \Deleted; a nil set means all.
	Expunge(ctx context.Context, set UIDSet) error
	// Copy copies in one transaction. A missing folder is an *Error with CodeTryCreate.
	Copy(ctx context.Context, set UIDSet, dest string) (*CopyResult, error)
	// Move is Copy and removal of the source, whatever its flags.
	Move(ctx context.Context, set UIDSet, dest string) (*CopyResult, error)
	// Search calls fn for each message that fits, in UID order. SearchByFetch does it without
	// an index; a backend that has one narrows the candidates and asks Criteria.Match.
	Search(ctx context.Context, criteria *Criteria, fn func(UID, ModSeq) error) error
	Close() error
}

// NamespaceSession is a Session that knows more than the personal namespace.
type NamespaceSession interface {
	// Namespaces returns the prefixes of other users' and of shared folders.
	Namespaces(ctx context.Context) (others, shared []string, err error)
}

// ListEntry is one folder or subscribed name.
type ListEntry struct {
	Name string
	// Attrs are NoSelect, NoInferiors and special uses such as `\Sent` (RFC 6154).
	Attrs []string
	// Subscribed tells that the user subscribed to the name.
	Subscribed bool
	// NonExistent tells that there is a subscription but no folder.
	NonExistent bool
}

// Attributes of ListEntry (RFC 3501 7.2.2).
const (
	NoSelect    = `\Noselect`
	NoInferiors = `\Noinferiors`
)

// CreateOptions are the options of CREATE.
type CreateOptions struct {
	// SpecialUse is an attribute such as `\Sent` (RFC 6154 3), "" for none.
	SpecialUse string
}

// StatusData is what STATUS can tell.
type StatusData struct {
	Messages, Unseen, Deleted uint32
	UIDNext                   UID
	UIDValidity               uint32
	Size                      int64
	HighestModSeq             ModSeq
}

// AppendOptions are what APPEND says of a message.
type AppendOptions struct {
	Flags []Flag
	// Date is the internal date; zero means now.
	Date time.Time
	Size int64
}

// AppendResult is where the message went (RFC 4315).
type AppendResult struct {
	UIDValidity uint32
	UID         UID
}

// SelectOptions are the options of SELECT and EXAMINE.
type SelectOptions struct {
	ReadOnly bool
}

// SelectData is a folder's state at one moment.
type SelectData struct {
	// UIDs are all messages, ascending. The server takes the slice over.
	UIDs        []UID
	UIDNext     UID
	UIDValidity uint32
	// HighestModSeq is the state that UIDs shows. 0 means that the folder has no change
	// numbers.
	HighestModSeq ModSeq
	// FirstUnseen is the first message without \Seen, 0 when there is none.
	FirstUnseen UID
	// Flags are in use here, PermanentFlags can be changed; `\*` means new keywords can be made.
	Flags, PermanentFlags []Flag
	// ReadOnly tells that the user may not change the folder, though he asked for it.
	ReadOnly bool
}

// Changes is what happened between two states.
type Changes struct {
	// HighestModSeq is the later state.
	HighestModSeq ModSeq
	// Added and Expunged are ascending. A message that came and went is in Expunged or nowhere.
	Added, Expunged []UID
	// Flags are messages that were there before, with their present flags.
	Flags []FlagState
	// Keywords are all flags in use if one was added, else nil.
	Keywords []Flag
}

// FlagState is a message's flags at one moment.
type FlagState struct {
	UID    UID
	Flags  []Flag
	ModSeq ModSeq
}

// FetchWant tells a Mailbox what the rows must hold. UID, Flags, ModSeq, Size and InternalDate
// always must.
type FetchWant struct {
	// Structure is the blob of mail.Structure.
	Structure bool
	// Body means that Open will be called for most rows.
	Body bool
	// ChangedSince leaves out messages whose ModSeq is not greater.
	ChangedSince ModSeq
}

// Message is one row of a fetch.
type Message struct {
	UID          UID
	Flags        []Flag
	InternalDate time.Time
	Size         int64
	ModSeq       ModSeq
	// Structure is the blob of mail.Structure, if wanted. When it is missing or of an unknown
	// version the message is indexed anew.
	Structure []byte
	// Open gives the bytes. They stay readable until they are closed even if the message is
	// expunged meanwhile.
	Open func(ctx context.Context) (Body, error)
}

// Body is the bytes of a message.
type Body interface {
	io.ReaderAt
	io.Closer
	Size() int64
}

// StoreMode is how STORE changes flags.
type StoreMode uint8

// Modes of STORE.
const (
	StoreReplace StoreMode = iota
	StoreAdd
	StoreRemove
)

// StoreChange is one STORE.
type StoreChange struct {
	Mode  StoreMode
	Flags []Flag
	// IfUnchangedSince, when Conditional, leaves messages with a greater ModSeq alone
	// (RFC 7162 3.1.3).
	IfUnchangedSince ModSeq
	Conditional      bool
}

// StoreResult is what STORE did.
type StoreResult struct {
	// Changed are the messages of the set with their flags after the change, ascending, also
	// those that had the flags before (their ModSeq is then the old one).
	Changed []FlagState
	// Modified failed the condition.
	Modified UIDSet
}

// CopyResult pairs the n-th UID of Source with the n-th of Dest.
type CopyResult struct {
	UIDValidity  uint32
	Source, Dest UIDSet
}
