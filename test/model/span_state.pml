/* The states of a span: a model of page/span.c, page/pageheap.c and arena_span_of for spin.
 *
 * Three span structures and two pages.  Two threads allocate a page, as a span in use or as a stack, and free it again;
 * under the page heap's lock spans are split and merged with free neighbours, whose structures die and are born again.
 * Nobody else's lock keeps a reader from looking up an address meanwhile.  Marking begins and ends at stops; the model
 * lets the program run in between, as collectors do that mark while it runs: it may allocate then, and free nothing.
 *
 * What is shown, for every order of their steps:
 *   only the steps of the table in page/span.h are made, and none to FREE while marking;
 *   a lookup answers with a span that held the address, in use or as a stack, at some time during the lookup, or with
 *   none; and while its owner holds on to the span, with that one;
 *   while marking, two lookups of an address that was in use when marking began find the same span.
 *
 * With one of these the model is wrong on purpose, and spin must find out:
 *   FREE_WHILE_MARKING  freeing does not ask whether marking runs
 *   MARK_WHILE_INSIDE   marking begins without a wait for critical sections
 *   STATE_BEFORE_RANGE  a span is in use before its range is written
 *   SAME_STATE          a lookup takes the same state for no step in between
 *   ONE_LOOK            a lookup does not look at the state again after the range */

#ifndef MUTATORS
#define MUTATORS 2
#endif
#ifndef LIVES
#define LIVES 2 /* spans that each thread has, one after the other */
#endif
#define SPANS 3
#define PAGES 2
#define NONE 3

mtype = { DEAD, FREE, IN_USE, STACK };

mtype state[SPANS] = DEAD;
byte start[SPANS], count[SPANS];
byte table[PAGES] = NONE;
bool pageheap_lock;

/* The state counts its steps, so that a reader notices when it is the same again.  What matters of the count is whether it
 * has moved since a reader's first look: a bit for each of the two readers. */
byte steps[SPANS];

bool marking, stopped;
byte inside;

/* For assertions only: the span that holds a page, in use or as a stack, and all that have since a lookup began. */
byte holder[PAGES] = NONE;
bool held_by[SPANS];
byte looked_at = NONE;
bool let_go; /* the owner has, since */
byte owned[PAGES] = NONE; /* what a thread holds on to */

inline enter() { atomic { !stopped -> inside++ } }
inline leave() { atomic { inside--; s = 0; t = 0; p = 0 } }

inline set_state(x, to) {
  assert((state[x] == DEAD && to == FREE) || (state[x] == FREE) ||
         ((state[x] == IN_USE || state[x] == STACK) && to == FREE && !marking));
  assert(!(state[x] == FREE && to == FREE));
  atomic { state[x] = to; steps[x] = 3 }
}

/* Takes page p for a span in state `to`; s becomes the span, NONE where no page is free. */
inline allocate(to) {
  atomic { !pageheap_lock -> pageheap_lock = true }
  atomic {
    if
    :: state[0] == FREE -> s = 0
    :: state[1] == FREE -> s = 1
    :: state[2] == FREE -> s = 2
    :: state[0] != FREE && state[1] != FREE && state[2] != FREE -> s = NONE
    fi
  }
  if
  :: s != NONE && count[s] == 2 -> /* split: the front is another structure's */
     atomic {
       if
       :: state[0] == DEAD -> t = 0
       :: state[1] == DEAD -> t = 1
       :: state[2] == DEAD -> t = 2
       fi
     }
#ifdef STATE_BEFORE_RANGE
     atomic { set_state(t, FREE); set_state(t, to) }
#endif
     start[t] = 0;
     count[t] = 1;
     start[s] = 1;
     count[s] = 1;
#ifndef STATE_BEFORE_RANGE
     set_state(t, FREE);
#endif
     table[0] = t;
     table[1] = s;
     s = t
  :: else
  fi;
  if
  :: s != NONE ->
     table[start[s]] = s;
     atomic {
       p = start[s];
       if :: state[s] == FREE -> set_state(s, to) :: else fi;
       holder[p] = s;
       if :: looked_at == p -> held_by[s] = true :: else fi
     }
  :: else
  fi;
  pageheap_lock = false
}

/* Frees span s, which holds page p, and merges it with the other page's if that is free. */
inline free_span() {
  atomic { !pageheap_lock -> pageheap_lock = true }
  atomic { set_state(s, FREE); holder[p] = NONE }
  t = table[1 - p];
  if
  :: t != NONE && state[t] == FREE ->
     /* Either structure may live on. */
     if :: true -> skip :: atomic { s = t; t = table[p] } fi;
     set_state(t, DEAD);
     start[s] = 0;
     count[s] = 2;
     table[0] = s;
     table[1] = s
  :: else -> table[p] = s
  fi;
  pageheap_lock = false
}

proctype mutator() {
  byte mine = NONE, s, t, p, lives;
  do
  :: mine == NONE && lives == LIVES -> break
  :: mine == NONE && lives < LIVES ->
     lives++;
     enter();
     if :: allocate(IN_USE) :: allocate(STACK) fi;
     if :: s != NONE -> atomic { mine = p; owned[p] = s } :: else fi;
     leave()
  :: mine != NONE ->
     enter();
     if
#ifndef FREE_WHILE_MARKING
     :: marking -> skip /* later */
     :: !marking ->
#else
     :: true ->
#endif
        atomic {
          p = mine;
          s = owned[p];
          owned[p] = NONE;
          mine = NONE;
          if :: looked_at == p -> let_go = true :: else fi
        }
        free_span()
     fi;
     leave()
  od
}

/* arena_span_of: `found` is the answer for page a. */
inline look_up(me) {
  found = table[a];
  if
  :: found == NONE
  :: else ->
     atomic { seen = state[found]; steps[found] = steps[found] & ~me }
     if
     :: seen != IN_USE && seen != STACK -> found = NONE
     :: else ->
        from = start[found];
        if
        :: a < from || a >= from + count[found] -> found = NONE
        :: else
        fi;
#ifndef ONE_LOOK
        if
        :: found == NONE
        :: found != NONE ->
           if
#ifdef SAME_STATE
           :: state[found] != seen -> found = NONE
#else
           :: (steps[found] & me) != 0 -> found = NONE
#endif
           :: else
           fi
        fi
#endif
     fi
  fi
}

/* One address, any one, at any time. */
proctype reader() {
  byte a, found, from, kept;
  mtype seen;
     atomic {
       if :: a = 0 :: a = 1 fi;
       held_by[0] = (holder[a] == 0);
       held_by[1] = (holder[a] == 1);
       held_by[2] = (holder[a] == 2);
       kept = owned[a];
       looked_at = a;
       let_go = false
     }
     look_up(1);
     atomic {
       assert(found == NONE || held_by[found]);
       assert(kept == NONE || let_go || found == kept);
       looked_at = NONE
     }
}

proctype collector() {
  byte a, found, from, first;
  mtype seen;
#ifdef MARK_WHILE_INSIDE
  marking = true;
#else
  atomic { inside == 0 -> stopped = true }
  atomic { marking = true; stopped = false }
#endif
  if :: a = 0 :: a = 1 fi;
  first = owned[a];
  look_up(2);
  assert(first == NONE || found == first);
  first = found;
  look_up(2);
  assert(first == NONE || found == first);
  atomic { inside == 0 -> stopped = true }
  atomic { marking = false; stopped = false }
}

init {
  byte i;
  atomic {
    state[0] = FREE;
    count[0] = 2;
    table[0] = 0;
    table[1] = 0;
    run collector();
    run reader();
    for (i : 1 .. MUTATORS) { run mutator() }
  }
}
