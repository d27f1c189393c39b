package ese

// An archive outside the engine takes closed generations of the log (CopyLog). With
// Options.ArchiveKeep the log that it has not taken stays, whatever else lets it go, but never at the
// price of serving: not beyond that many bytes, and not while the log disk is short of space.

// Archived says that an archive has all generations below next, so that they need not stay for it,
// and how many bytes of log may from now on: 0 is none. Until it is called nothing is known to be
// archived, and Options.ArchiveKeep holds.
func (in *Instance) Archived(next uint32, keep int64) error {
	if err := in.usable(); err != nil || in.o.ReadOnly {
		return err
	}
	in.stepMu.Lock()
	defer in.stepMu.Unlock()
	if next > in.archived {
		in.archived = next
		in.logTight.Store(false)
	}
	in.archiveKeep = keep
	return in.removeLogs(0)
}

// heldForArchive is gen, or the generation below it from which on the log stays for the archive.
// What could have gone is kept in mind until the archive has it. stepMu is held.
func (in *Instance) heldForArchive(gen uint32) uint32 {
	if in.o.ArchiveKeep == 0 {
		return gen
	}
	in.letGo = max(in.letGo, gen)
	if in.shortOfLog() {
		return in.letGo
	}
	first := in.archived
	if most := in.archiveKeep / in.o.GenerationBytes; int64(in.log.Generation()) > most {
		first = max(first, in.log.Generation()-uint32(most))
	}
	return min(in.letGo, first)
}

// shortOfLog tells that changes are refused for want of log space, or that a reserve file was used
// since the archive last took something.
func (in *Instance) shortOfLog() bool { return in.logTight.Load() || in.fullSince.Load() != 0 }

// lostToArchive tells of log below gen that goes although the archive has not taken it. stepMu is
// held.
func (in *Instance) lostToArchive(gen uint32) {
	if in.o.ArchiveKeep == 0 || gen <= max(in.archived, 1) {
		return
	}
	e := Event{ID: EventLogNotArchived, Gen: gen}
	if since := max(in.archived, in.removed); since > 0 {
		e.N = uint64(gen - since)
	}
	in.emit(e)
}

// makeRoom lets log go that is kept for the archive only, when the log disk is short of space.
func (in *Instance) makeRoom() error {
	if in.o.ArchiveKeep == 0 || !in.shortOfLog() {
		return nil
	}
	in.stepMu.Lock()
	defer in.stepMu.Unlock()
	if in.letGo <= in.removed {
		return nil
	}
	return in.removeLogs(0)
}
