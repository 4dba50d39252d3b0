/* What dirty-page mode hears of a store, and in which order: a model of docs/dirty-pages.md, "Why nothing is lost", for spin, on
 * processors that make accesses in another order than they are told.
 *
 * One old object, on a page of its own, and one slot where the arena has yet to grow.  The program makes an object of the slot and
 * stores its address to the old one.  Meanwhile one marker comes to the old object, marks it and scans it; others do
 * rounds: each protects the page and, if it was written, scans the object again, where that is marked.  Then comes the stop.
 *
 * The program's stores wait in its processor, each by itself, and are seen at any time.  A page that counts as written is stored to
 * at once.  Another counts as written from the first store to it on.  To protect one waits for the stores to it that are under way,
 * and for no others.
 *
 * What is shown, for every order of their steps: after the stop the young object is marked, if its address was stored.
 *
 * With one of these the model is wrong on purpose, and spin must find out:
 *   NO_PUBLISH  the address may be seen before what is found by it (atomic_publish)
 *   OLD_VIEW    how far the arena reaches was read before the object is marked (renew_view in gc/mark.c)
 *   LATE_MARK   that the object is marked is seen after its words were read
 *   NO_WAIT     to protect the page waits for no store */

#ifndef ROUNDS
#define ROUNDS 2
#endif

bool written = true; /* the page counts as that */
bool old_marked, young_marked;

/* As all see them; and in the program's processor. */
bool used, allocated, address;
bool used_waits, allocated_waits, address_waits;

byte ended;

proctype processor() {
end:
  do
  :: atomic { used_waits -> used = true; used_waits = false }
  :: atomic { allocated_waits -> allocated = true; allocated_waits = false }
  :: atomic { address_waits -> address = true; address_waits = false }
  od
}

proctype program() {
  used_waits = true;
  allocated_waits = true;
#ifndef NO_PUBLISH
  !used_waits && !allocated_waits;
#endif
  do
  :: atomic { written -> address_waits = true; break }
  :: atomic { !written -> written = true }
  od
  ended++
}

/* A word is found by what is read after it, or was read before: `reaches`, the word names a part of the arena. */
inline look_up(word, reaches) {
  if
  :: word && reaches && allocated -> young_marked = true
  :: else
  fi
}

proctype marker() {
  bool word, reaches;
#ifdef OLD_VIEW
  reaches = used;
#endif
#ifndef LATE_MARK
  old_marked = true;
#endif
#ifndef OLD_VIEW
  reaches = used;
#endif
  word = address;
#ifdef LATE_MARK
  old_marked = true;
#endif
  look_up(word, reaches);
  ended++
}

proctype rounds() {
  bool word, reaches, was_written;
  byte round;
  do
  :: round < ROUNDS ->
    atomic { was_written = written; written = false }
#ifndef NO_WAIT
    !address_waits;
#endif
    if
    :: was_written && old_marked ->
      reaches = used;
      word = address;
      look_up(word, reaches)
    :: else
    fi;
    round++
  :: else -> break
  od;
  ended++
}

init {
  if
  :: written = false
  :: skip
  fi;
  atomic { run processor(); run program(); run marker(); run rounds() }
  ended == 3 && !used_waits && !allocated_waits && !address_waits;
  /* The stop */
  assert(young_marked || written)
}
