/* Barrier mode: a model of docs/barrier-mode.md for spin; what is in brackets there and here has the same name.
 *
 * Threads load, store by the barrier, allocate and fill, and pass objects to each other through a static root; the collector
 * makes one cycle, with or without a helper that drains beside it (HELPER: they agree on the end as gc/work.c does; PAIR: in one
 * step).  An object has one slot.  Sets of objects, buffers too,
 * are masks of bits; a buffer is full whenever spin wants it to be.  The count of objects that threads marked is a bit: it
 * has moved, or not.
 *
 * What is shown, for every order of their steps: when the phase changes to MARK_TERMINATION, all that is reachable from the
 * static root, from the variables of threads, from what is in flight and from windows is marked; and no thread uses an
 * object that is not allocated.
 *
 * A handshake is one step, between any two steps of its thread outside critical sections: its thread does nothing
 * meanwhile, and markers do nothing until all have answered.  So it does not matter in whose name it is done; what does is
 * that FLUSH looks at the stack of a thread that is not SAFE only.  Flushes of full buffers and weak_get are one step each.
 *
 * With LOOKS the collector may find, in ARM and FLUSH, that there is nothing to do for a thread, and nothing of the thread's is seen
 * by that: all threads pass a barrier when the round begins; a store that is under way then is waited for, and is visible when it
 * is over; what begins later may be under way, and its store invisible.  In FLUSH a second step finds the buffer empty.  LIBRARY:
 * threads store in critical sections too, as the library does (barrier_note): the store comes first, then the flag.
 *
 * Steps are seen by all in the same order, but for the stores of threads with STORE_BUFFERS: these are seen by others at any
 * time up to the thread's next store, step to SAFE, critical section or answer.
 *
 * A store is a step that looks at the flag and loads the old value, a step that stores, and one that tells of it; no
 * handshake is answered in between ([whole]).  Weaker forms than the protocol's, to be found out:
 *   NOT_WHOLE    a handshake may come between the steps of a store
 *   STORE_FIRST  so it may, and the flag is looked at after the store
 *   ONE_ARM      one round of ARM instead of two
 *
 * Who takes part: MUTATORS; LOADERS of them load from the heap, ALLOCATORS allocate, SAFES may be SAFE; WIDE has LOCALS
 * variables, others have one.  LIVE objects at first, FREE slots.  AMBIGUOUS: a static word names a free slot.  WEAK=1:
 * object 1 is reachable by a weak reference only; HELD: at first by a variable of mutator 0 only.  LATE: threads take no step
 * before ARM.
 *
 * With one of these the model is wrong on purpose, and spin must find out:
 *   NO_DELETION        the old value is not recorded
 *   NO_INSERTION       the new value is never recorded, not even by a thread that is not yet scanned
 *   NO_ARM             no handshake between the flag and SCAN (STORE_BUFFERS show it)
 *   BLACK_EARLY        a thread allocates black from ARM on
 *   SCAN_EARLY         markers scan before all threads have answered SCAN
 *   NO_WINDOW          the answer to SCAN does not mark the window
 *   SECOND_FILL        a slot that was filled is filled again without the barrier
 *   TAKE_BACK          a marker marks first and takes the mark back if the slot is free
 *   NO_FLUSH_ROUND     marking ends without a round of FLUSH
 *   LOOK_EARLY         LOOKS, and the collector looks at the buffer first
 *   LOOK_AT_STORES     LOOKS and LIBRARY, and the collector does not wait for critical sections
 *   NO_ORDER           LOOKS, and no barrier is passed when a round begins
 *   WEAK_NO_MARK       weak_get does not mark
 *   WEAK_IN_MARK_ONLY  it does so in MARK, but not in SCAN */

#ifndef MUTATORS
#define MUTATORS 2
#endif
#if !defined(NOT_WHOLE) && !defined(STORE_FIRST)
#define DEFER
#endif
#ifndef STORE_FIRST
#define FLAG_FIRST
#endif
#ifndef ONE_ARM
#define ARM_ROUNDS 2
#endif
#define FLUSH_NO_STACK
#define NO_IN_FLIGHT
#define INSERT_WHILE_WHITE
#ifndef LOCALS
#define LOCALS 1
#endif
#ifndef LIVE
#define LIVE 1 /* objects that there are at first: 1 to LIVE */
#endif
#ifndef FREE
#define FREE 0 /* free slots of the heap */
#endif
#ifndef SAFES
#define SAFES 1 /* the first so many mutators may be SAFE */
#endif
#ifndef ARM_ROUNDS
#define ARM_ROUNDS 1
#endif
#ifndef WIDE
#define WIDE 0 /* the mutator that has LOCALS variables, while others have one */
#endif
#ifndef LOADERS
#define LOADERS MUTATORS
#endif
#ifndef ALLOCATORS
#define ALLOCATORS MUTATORS
#endif
#define OBJECTS (LIVE + FREE)
#define NIL 0
#define ROOT 0 /* slot 0; slot k is that of object k */

#define BIT(k) (1 << (k))
#define WORD(k) (BIT(k) & ~1) /* what a word names */
#define LOCAL(i) held[me * LOCALS + i]
#if LOCALS == 1
#define NAMED(m) WORD(held[m])
#else
#define NAMED(m) (WORD(held[(m) * 2]) | WORD(held[(m) * 2 + 1]))
#endif

mtype = { OFF, ARM, SCAN, FLUSH, MARK, MARK_TERMINATION };

/* The heap: sets of objects are masks of bits. */
byte slot[OBJECTS + 1];
byte allocated, marked, grey;
byte claimed; /* free slots that a thread is about to take */

mtype phase = OFF;
bool barrier_active;
bool thread_marked; /* whether the count of objects marked by threads has moved */
byte inside;        /* threads in critical sections */
bool over;

/* The mutators. */
byte held[MUTATORS * LOCALS];
byte old[MUTATORS], value[MUTATORS]; /* in flight */
byte buffer[MUTATORS];
byte fresh[MUTATORS];  /* allocated, and shown to nobody yet */
byte window[MUTATORS]; /* a slot to be handed out */
#ifdef LOOKS
bool looked[MUTATORS]; /* the first of two steps is done */
mtype = { NONE, BEGUN, ENDED };
mtype under_way[MUTATORS] = NONE; /* the store, or section, in which a thread passed the barrier of the round */
#endif
bool safe[MUTATORS], black[MUTATORS], busy[MUTATORS], critical[MUTATORS], answered[MUTATORS];

#ifdef RESTART
bool loaded[MUTATORS], again[MUTATORS];
#endif

#ifndef LOOKS
#define IS_OVER(m) skip
#define FORGET_ENDED(m) skip
#elif defined(STORE_BUFFERS)
#define IS_OVER(m) under_way[m] = (under_way[m] == BEGUN -> ENDED : under_way[m])
#define FORGET_ENDED(m) under_way[m] = (under_way[m] == ENDED -> NONE : under_way[m])
#else
#define IS_OVER(m) under_way[m] = NONE
#endif

#ifdef STORE_BUFFERS
bool delayed[MUTATORS];
byte delayed_slot[MUTATORS], delayed_value[MUTATORS];
inline make_visible(m) {
  if
  :: delayed[m] ->
     slot[delayed_slot[m]] = delayed_value[m];
     delayed[m] = false;
     delayed_slot[m] = 0;
     delayed_value[m] = 0
  :: else
  fi
}
#define READ(a) (delayed[me] && delayed_slot[me] == a -> delayed_value[me] : slot[a])
inline write(a, v) {
  make_visible(me);
  FORGET_ENDED(me);
  delayed[me] = true;
  delayed_slot[me] = a;
  delayed_value[me] = v
}
#define DELAYED(m) WORD(delayed_value[m])
#else
inline make_visible(m) { skip }
#define READ(a) slot[a]
inline write(a, v) { slot[a] = v }
#define DELAYED(m) 0
#endif

/* Marks objects and makes them grey; by threads, so it counts. */
inline thread_mark(objects) {
  if
  :: ((objects) & allocated & ~marked) != 0 ->
     grey = grey | ((objects) & allocated & ~marked);
     marked = marked | grey;
     thread_marked = true
  :: else
  fi
}

#ifdef NO_IN_FLIGHT
#define IN_FLIGHT(m) 0
#else
#define IN_FLIGHT(m) (WORD(old[m]) | WORD(value[m]))
#endif

/* ---- handshakes ---- */

#ifdef DEFER
#define MAY_ANSWER(m) (!critical[m] && !busy[m])
#else
#define MAY_ANSWER(m) (!critical[m])
#endif

inline answer(m, action) {
  atomic {
    !answered[m] && MAY_ANSWER(m) ->
    make_visible(m);
    if
    :: action == ARM
    :: action == SCAN ->
       thread_mark(NAMED(m) | WORD(old[m]) | WORD(value[m]));
#ifndef NO_WINDOW
       marked = marked | WORD(window[m]);
#endif
       black[m] = true
    :: action == FLUSH ->
       if
#ifndef FLUSH_NO_STACK
       :: !safe[m] -> thread_mark(NAMED(m) | IN_FLIGHT(m) | buffer[m])
#else
       :: !safe[m] -> thread_mark(IN_FLIGHT(m) | buffer[m])
#endif
       :: safe[m] -> thread_mark(buffer[m])
       fi;
       buffer[m] = 0
    fi;
#ifdef RESTART
    again[m] = loaded[m];
#endif
    answered[m] = true
  }
}

#ifdef LOOKS
inline pass_barrier(m) {
#ifndef NO_ORDER
  make_visible(m);
#ifdef LOOK_AT_STORES
  under_way[m] = (busy[m] -> BEGUN : NONE)
#else
  under_way[m] = (MAY_ANSWER(m) -> NONE : BEGUN)
#endif
#else
  skip
#endif
}

/* What has ended is seen; a later store of the thread's need not be. */
inline see_outside(m) {
  if
  :: under_way[m] == ENDED -> make_visible(m); under_way[m] = NONE
  :: else
  fi
}

#define IS_OUTSIDE(m) (under_way[m] != BEGUN)
#ifdef LOOK_EARLY
#define FIRST_LOOK(m) (buffer[m] == 0)
#define SECOND_LOOK(m) IS_OUTSIDE(m)
#else
#define FIRST_LOOK(m) IS_OUTSIDE(m)
#define SECOND_LOOK(m) (buffer[m] == 0)
#endif
inline look(m, action) {
  atomic {
    action != SCAN && !answered[m] && !looked[m] && (action == ARM -> IS_OUTSIDE(m) : FIRST_LOOK(m)) ->
    see_outside(m);
    answered[m] = (action == ARM);
    looked[m] = true
  }
}

inline look_again(m) {
  atomic { looked[m] && !answered[m] && SECOND_LOOK(m) -> answered[m] = true }
}
#endif

#if MUTATORS > 1
#define ALL_ANSWERED (answered[0] && answered[1])
#else
#define ALL_ANSWERED answered[0]
#endif

inline round(action) {
#ifdef LOOKS
  atomic {
    pass_barrier(0);
#if MUTATORS > 1
    pass_barrier(1)
#endif
  }
#endif
  do
  :: answer(0, action)
#if MUTATORS > 1
  :: answer(1, action)
#endif
#ifdef LOOKS
  :: look(0, action)
  :: look_again(0)
#if MUTATORS > 1
  :: look(1, action)
  :: look_again(1)
#endif
#endif
  :: atomic {
       ALL_ANSWERED ->
       answered[0] = false;
#if MUTATORS > 1
       answered[1] = false;
#endif
#ifdef LOOKS
       looked[0] = false;
       under_way[0] = NONE;
#if MUTATORS > 1
       looked[1] = false;
       under_way[1] = NONE;
#endif
#endif
       break
     }
  od
}

/* ---- the program ---- */

inline forget_fresh() {
  if
  :: (NAMED(me) & WORD(fresh[me])) == 0 -> fresh[me] = NIL
  :: else
  fi
}

inline pick(x) {
#if LOCALS == 1
  x = 0
#else
  if
  :: x = 0
  :: me == WIDE -> x = 1
  fi
#endif
}

inline pick_slot() {
  pick(i);
  if
  :: a = ROOT
  :: LOCAL(i) != NIL -> a = LOCAL(i); assert((allocated & BIT(a)) != 0)
  fi;
  i = 0
}

/* A buffer may be full. */
inline tell() {
#ifdef NO_INSERTION
  buffer[me] = buffer[me] | WORD(old[me]);
#elif defined(INSERT_WHILE_WHITE)
  buffer[me] = buffer[me] | WORD(old[me]) | (black[me] -> 0 : WORD(value[me]));
#else
  buffer[me] = buffer[me] | WORD(old[me]) | WORD(value[me]);
#endif
  old[me] = NIL;
  value[me] = NIL;
  if
  :: true
  :: make_visible(me); thread_mark(buffer[me]); buffer[me] = 0
  fi
}

/* What is to be stored, and where. */
inline pick_store() {
  pick_slot();
  if
  :: value[me] = NIL
  :: pick(i); value[me] = LOCAL(i)
  fi;
  i = 0;
  if
  :: value[me] == fresh[me] || a == fresh[me] -> fresh[me] = NIL
  :: else
  fi
}

#ifdef FLAG_FIRST
#define FLAG on
#else
#define FLAG barrier_active
#endif

proctype mutator(byte me) {
  byte i, a, k;
#ifdef FLAG_FIRST
  bool on;
#endif
#ifdef LATE
  phase != OFF;
#endif
  do
  :: over -> break
  :: atomic { !over && !safe[me] && me < LOADERS -> /* load */
       pick_slot();
       pick(i);
       LOCAL(i) = READ(a);
       forget_fresh();
       a = 0;
       i = 0
     }
  :: atomic { !over && !safe[me] && NAMED(me) != 0 -> /* drop */
       pick(i);
       LOCAL(i) = NIL;
       forget_fresh();
       i = 0
     }
  :: atomic { !over && !safe[me] -> /* store: load old */
       pick_store();
       busy[me] = true;
#ifndef NO_DELETION
       old[me] = READ(a);
#endif
#ifdef RESTART
       loaded[me] = true;
#endif
#ifdef FLAG_FIRST
       on = barrier_active;
#endif
#ifdef EXCHANGE
#ifdef FLAG_FIRST
     }
     atomic {
#ifndef NO_DELETION
       old[me] = READ(a);
#endif
#endif
       write(a, value[me]);
       make_visible(me);
       a = 0
#endif
     }
#ifndef EXCHANGE
#ifdef RESTART
     do
     :: atomic { again[me] -> old[me] = READ(a); again[me] = false }
     :: atomic { !again[me] -> write(a, value[me]); loaded[me] = false; a = 0; break } /* store */
     od;
#else
     atomic { write(a, value[me]); a = 0 } /* store */
#endif
#endif
     if
     :: atomic { !FLAG -> old[me] = NIL; value[me] = NIL; busy[me] = false; IS_OVER(me) }
     :: FLAG ->
        atomic { /* record */
#ifdef FLAG_FIRST
          on = false;
#endif
          tell();
          busy[me] = false;
          IS_OVER(me)
        }
     fi
#ifdef LIBRARY
  :: atomic { !over && !safe[me] -> /* store in a critical section */
       pick_store();
       make_visible(me);
       inside++;
       critical[me] = true;
       old[me] = READ(a)
     }
     atomic { write(a, value[me]); a = 0 }
     atomic {
       if
       :: !barrier_active -> old[me] = NIL; value[me] = NIL
       :: else -> tell()
       fi;
       inside--;
       critical[me] = false;
       IS_OVER(me)
     }
#endif
#if FREE > 0
  :: atomic { !over && !safe[me] && me < ALLOCATORS && window[me] == NIL && ((BIT(OBJECTS + 1) - BIT(LIVE + 1)) & ~claimed) != 0 -> /* refill */
       k = LIVE + 1;
#if FREE > 1
       if :: (claimed & BIT(k)) != 0 -> k++ :: else fi;
#endif
       claimed = claimed | BIT(k);
       make_visible(me);
       inside++;
       critical[me] = true;
       if
#ifdef BLACK_EARLY
       :: phase != OFF -> marked = marked | BIT(k)
#else
       :: black[me] -> marked = marked | BIT(k)
#endif
       :: else
       fi
     }
     atomic {
       allocated = allocated | BIT(k);
       window[me] = k;
       k = 0;
       inside--;
       critical[me] = false;
       IS_OVER(me)
     }
  :: atomic { !over && !safe[me] && window[me] != NIL -> /* allocate */
       pick(i);
       LOCAL(i) = window[me];
       fresh[me] = window[me];
       window[me] = NIL;
       i = 0
     }
  #ifdef SECOND_FILL
  :: atomic { !over && !safe[me] && fresh[me] != NIL -> /* any filling */
#else
  :: atomic { !over && !safe[me] && fresh[me] != NIL && READ(fresh[me]) == NIL -> /* first filling */
#endif
       pick(i);
       write(fresh[me], LOCAL(i));
       i = 0
     }
#endif
#ifdef WEAK
  :: atomic { !over && !safe[me] -> /* weak_get; a critical section */
       make_visible(me);
       pick(i);
       LOCAL(i) = WEAK;
       if
#ifdef WEAK_NO_MARK
       :: false
#endif
#ifdef WEAK_IN_MARK_ONLY
       :: phase == MARK -> thread_mark(WORD(WEAK))
#else
#ifndef WEAK_NO_MARK
       :: black[me] -> thread_mark(WORD(WEAK))
#endif
#endif
       :: else
       fi;
       forget_fresh();
       i = 0
     }
#endif
#if SAFES > 0
  :: atomic { !over && !safe[me] && me < SAFES -> make_visible(me); safe[me] = true }
  :: atomic { !over && safe[me] -> safe[me] = false }
#endif
  od
}

#ifdef STORE_BUFFERS
proctype store_buffer(byte me) {
  do
  :: over -> break
  :: atomic { !over && delayed[me] -> make_visible(me) }
  od
}
#endif

/* ---- the collector ---- */

byte joined, waiting; /* gc/work.c */
bool door_open;       /* gc/markers.c */
byte in_door;

inline mark(word) {
  if
#ifdef TAKE_BACK
  :: true ->
#else
  :: (allocated & WORD(word)) != 0 ->
#endif
     atomic {
       if
       :: (marked & WORD(word)) == 0 -> marked = marked | WORD(word); grey = grey | WORD(word)
       :: else
       fi;
       w = 0
     }
#ifndef TAKE_BACK
  :: else -> w = 0
#endif
  fi
}

inline take() {
  atomic {
    if
    :: (grey & BIT(1)) != 0 -> g = 1
#if OBJECTS > 1
    :: (grey & BIT(2)) != 0 -> g = 2
#endif
#if OBJECTS > 2
    :: (grey & BIT(3)) != 0 -> g = 3
#endif
    :: grey == 0 -> g = 0
    fi;
    grey = grey & ~WORD(g)
  }
}

#ifdef PAIR
byte marking; /* markers that hold an object */

/* One of the objects in the pool, by a marker. */
inline scan_one() {
  atomic { door_open && grey != 0 -> take(); marking++; w = slot[g]; g = 0 }
  mark(w);
  marking--
}

inline drain() {
  door_open = true;
  do
  :: scan_one()
  :: atomic { grey == 0 && marking == 0 -> door_open = false; break }
  od
}

proctype helper() {
  byte g, w;
  do
  :: over -> break
  :: scan_one()
  od
}
#else
/* work_take_or_finish, and what a marker does with what it has. */
inline drain() {
  joined++;
  do
  :: take();
     if
#ifdef TAKE_BACK
     :: g != 0 && (allocated & BIT(g)) == 0 -> atomic { marked = marked & ~BIT(g); g = 0 }
#endif
     :: g != 0 && (allocated & BIT(g)) != 0 ->
        atomic { w = slot[g]; g = 0 }
        mark(w)
     :: else ->
        waiting++;
        do
        :: atomic { grey != 0 -> waiting-- } break
        :: atomic { grey == 0 && waiting == joined -> finished = true; break }
        od;
        if :: finished -> finished = false; break :: else fi
     fi
  od
}

#ifdef HELPER
proctype helper() {
  byte g, w;
  bool finished;
  do
  :: over -> break
  :: atomic { door_open -> in_door++ } drain(); in_door--
  od
}
#endif
#endif

/* Everything that is reachable now is marked. */
inline check() {
  d_step {
    reached = WORD(slot[ROOT]) | NAMED(0) | WORD(old[0]) | WORD(value[0]) | WORD(window[0]) | DELAYED(0);
#if MUTATORS > 1
    reached = reached | NAMED(1) | WORD(old[1]) | WORD(value[1]) | WORD(window[1]) | DELAYED(1);
#endif
    n = 0;
    do
    :: n < OBJECTS * OBJECTS ->
       if
       :: (reached & BIT(1 + n % OBJECTS)) != 0 -> reached = reached | WORD(slot[1 + n % OBJECTS])
       :: else
       fi;
       n++
    :: else -> break
    od;
    assert((reached & ~marked) == 0);
    reached = 0;
    n = 0
  }
}

inline scan_roots() {
  w = slot[ROOT];
  mark(w);
#ifdef AMBIGUOUS
  w = LIVE + 1;
  mark(w)
#endif
}

proctype collector() {
  byte g, w, n, reached;
  bool finished, done;
  atomic { inside == 0 -> phase = ARM; barrier_active = true }
#ifdef MEMBARRIER
  atomic { make_visible(0); make_visible(1) }
#endif
#ifndef NO_ARM
  round(ARM);
#if ARM_ROUNDS > 1
  round(ARM);
#endif
#endif
  atomic { inside == 0 -> phase = SCAN }
#ifdef SCAN_EARLY
  scan_roots();
  drain();
#endif
  round(SCAN);
  atomic { inside == 0 -> phase = MARK }
  scan_roots();
  do
#ifdef PAIR
  :: drain();
#else
  :: atomic { joined = 0; waiting = 0; door_open = true }
     drain();
     door_open = false;
     in_door == 0;
#endif
#ifndef COUNT_LATE
     thread_marked = false;
#endif
     if
     :: grey != 0
     :: grey == 0 ->
#ifdef COUNT_LATE
        thread_marked = false;
#endif
#ifndef NO_FLUSH_ROUND
        round(FLUSH);
#endif
        atomic {
          inside == 0 ->
          if
          :: thread_marked
          :: else -> phase = MARK_TERMINATION; check(); over = true; break
          fi
        }
     fi
  od
}

init {
  byte k;
  atomic {
    allocated = BIT(LIVE + 1) - 2;
#ifdef HELD
    held[0] = 1;
#else
#ifndef WEAK
    slot[ROOT] = 1;
#endif
#endif
#if LIVE > 1
    slot[1] = 2;
#endif
    run collector();
#if defined(HELPER) || defined(PAIR)
    run helper();
#endif
    run mutator(0);
#if MUTATORS > 1
    run mutator(1);
#endif
#ifdef STORE_BUFFERS
    run store_buffer(0);
#if MUTATORS > 1
    run store_buffer(1);
#endif
#endif
  }
}
