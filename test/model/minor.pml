/* Minor cycles of barrier mode: a model of docs/barrier-mode.md, "Minor cycles", for spin.
 *
 * Threads allocate, from a window or by a claim, load, store by the barrier, and fill new objects without it; an object has one slot, and
 * there is a static root.  The collector makes a full cycle and then MINORS minor ones.  What test/model/barrier.pml is about is taken
 * for granted: a store is one step, what it records is marked in the same step, and a cycle ends when nothing is grey.
 *
 * What is shown, for every order of their steps: when a cycle ends, all that is reachable from the root and from the variables of
 * threads is marked.  What is not marked is freed, and its slot may serve again.
 *
 * OBJECTS slots, 3 at most; each thread has two variables and a window of one slot.  NARROW: the second has one variable, and no window.
 * ALONE: there is no second.
 *
 * With one of these the model is wrong on purpose, and spin must find out:
 *   NO_CARDS       a store does not note its card
 *   NO_STACK_NOTE  the scan of a stack does not note what it names
 *   BORN_EARLY     what a scanned thread claims in SCAN is born, like what comes later
 *   NO_CLAIM_NOTE  it is not, nor are its cards noted
 *   NO_WINDOW_NOTE the cards of a window's slot are not noted when its thread is scanned
 *   EPOCH_LATE     the next epoch begins when all threads have been scanned
 *   ONE_EPOCH      a minor cycle reads the cards of its own epoch only */

#ifndef OBJECTS
#define OBJECTS 2
#endif
#ifndef MINORS
#define MINORS 1
#endif
#define THREADS 2
#define SLOTS (OBJECTS + 1) /* 0: no object */

/* Of objects. */
bool allocated[SLOTS], marked[SLOTS], grey[SLOTS], born[SLOTS];
bool shown[SLOTS]; /* something other than variables of its thread refers to it, or did */
byte owner[SLOTS], slot[SLOTS], card[SLOTS];

byte root;
byte held[4]; /* thread t has held[2 * t] and held[2 * t + 1] */
byte window[THREADS];
bool black[THREADS];

mtype = { OFF, ARM, SCAN, MARK };
mtype phase = OFF;
byte epoch = 1;

#define recording (phase != OFF)

inline shade(x) {
  if
  :: x != 0 && !marked[x] -> marked[x] = true; grey[x] = true
  :: else -> skip
  fi
}

inline note(x) {
  if
  :: x != 0 && epoch > 1 -> card[x] = epoch /* the first epoch is that of no cycle */
  :: else -> skip
  fi
}

/* A slot that thread t takes for itself. */
inline claim(t, x) {
  if
  :: black[t] ->
     marked[x] = true;
     if
#ifdef BORN_EARLY
     :: true -> born[x] = true
#else
     :: phase == MARK -> born[x] = true
     :: else ->
#ifndef NO_CLAIM_NOTE
        note(x);
#endif
        skip
#endif
     fi
  :: else -> skip
  fi
}

inline make(t, v, x) {
  allocated[x] = true;
  owner[x] = t;
  slot[x] = 0;
  shown[x] = false;
  held[v] = x
}

/* Which of the free slots it is does not matter. */
#define is_free(x) (!allocated[x] && x != window[0] && x != window[1])
#if OBJECTS > 2
#define first_free() (is_free(1) -> 1 : (is_free(2) -> 2 : (is_free(3) -> 3 : 0)))
#define none_is_grey (!grey[1] && !grey[2] && !grey[3])
#else
#define first_free() (is_free(1) -> 1 : (is_free(2) -> 2 : 0))
#define none_is_grey (!grey[1] && !grey[2])
#endif

#ifdef NARROW
#define has_window(t) (t == 0)
#else
#define has_window(t) true
#endif

/* It is no longer known to its thread alone. */
inline make_shown(x) {
  if
  :: x != 0 -> shown[x] = true; owner[x] = 0
  :: else -> skip
  fi
}

inline store(t, at, x) {
#ifndef NO_CARDS
  note(at);
#endif
  if
  :: recording ->
     shade(slot[at]);
     if
     :: !black[t] -> shade(x)
     :: else -> skip
     fi
  :: else -> skip
  fi
  slot[at] = x;
  make_shown(x)
}

inline store_root(t, x) {
  if
  :: recording ->
     shade(root);
     if
     :: !black[t] -> shade(x)
     :: else -> skip
     fi
  :: else -> skip
  fi
  root = x;
  make_shown(x)
}

/* Only through a variable of its thread. */
inline fill(at, x) {
  slot[at] = x;
  make_shown(x)
}

proctype mutator(byte t) {
  byte v, w, x, n;
  do
  :: atomic {
       if
       :: v = 2 * t
       :: has_window(t) -> v = 2 * t + 1
       fi;
       if
       :: w = 2 * t
       :: w = 2 * t + 1
       fi;
       if
       :: window[t] != 0 -> /* allocates from it */
          x = window[t];
          window[t] = 0;
          make(t, v, x)
       :: window[t] == 0 && first_free() != 0 ->
          x = first_free();
          claim(t, x);
          if
          :: has_window(t) -> window[t] = x
          :: else -> make(t, v, x)
          fi
       :: held[v] != 0 -> held[v] = 0
       :: held[v] != 0 -> held[w] = slot[held[v]]
       :: held[v] = root
       :: held[v] != 0 -> store(t, held[v], held[w])
       :: held[v] != 0 && slot[held[v]] != 0 -> store(t, held[v], 0)
       :: true -> store_root(t, held[v])
       :: root != 0 -> store_root(t, 0)
       :: held[v] != 0 && owner[held[v]] == t && !shown[held[v]] && slot[held[v]] == 0 && held[w] != 0 ->
          fill(held[v], held[w])
       :: skip
       fi;
       if
       :: held[2 * t] < held[2 * t + 1] -> x = held[2 * t]; held[2 * t] = held[2 * t + 1]; held[2 * t + 1] = x
       :: else -> skip
       fi;
       v = 0; w = 0; x = 0; n = 0
     }
  :: phase == OFF && epoch == MINORS + 2 -> break /* the last cycle is over */
  od
}

inline begin_epoch() { epoch++ }

inline scan(t) {
  atomic {
    shade(held[2 * t]); shade(held[2 * t + 1]);
#ifndef NO_STACK_NOTE
    note(held[2 * t]); note(held[2 * t + 1]);
#endif
    if
    :: window[t] != 0 ->
       marked[window[t]] = true;
#ifndef NO_WINDOW_NOTE
       note(window[t]);
#endif
       skip
    :: else -> skip
    fi;
    black[t] = true
  }
}

#ifdef ONE_EPOCH
#define is_noted(x) (card[x] == epoch)
#else
#define is_noted(x) (card[x] != 0 && card[x] + 1 >= epoch)
#endif

inline remember(x) {
  if
  :: allocated[x] && marked[x] && !born[x] && is_noted(x) -> grey[x] = true
  :: else -> skip
  fi
}

/* By the collector, of a snapshot: what is reached and not marked is an error. */
inline look(x) {
  n = x;
  i = 0;
  do
  :: n != 0 && i <= OBJECTS -> assert(allocated[n] && marked[n]); n = slot[n]; i++
  :: else -> break
  od
}

inline sweep(x) {
  if
  :: allocated[x] && !marked[x] -> allocated[x] = false; slot[x] = 0; owner[x] = 0; shown[x] = false; card[x] = 0
  :: else -> skip
  fi;
  if
  :: born[x] || x == window[0] || x == window[1] -> marked[x] = false
  :: else -> skip
  fi;
  born[x] = false;
  if
  :: card[x] < epoch -> card[x] = 0 /* nobody asks for it again */
  :: else -> skip
  fi
}

active proctype collector() {
  byte n, i;
  bool minor = false;
#ifdef ALONE
  run mutator(0);
#else
  atomic { run mutator(0); run mutator(1) }
#endif
  do
  :: epoch < MINORS + 2 ->
     phase = ARM;
#ifndef EPOCH_LATE
     begin_epoch();
#endif
     phase = SCAN;
     if
     :: true -> scan(0); scan(1)
     :: true -> scan(1); scan(0)
     fi;
#ifdef EPOCH_LATE
     begin_epoch();
#endif
     atomic {
       phase = MARK;
       if
       :: minor ->
          remember(1); remember(2);
#if OBJECTS > 2
          remember(3);
#endif
          skip
       :: else -> skip
       fi;
       shade(root)
     }
     do
     :: atomic { grey[1] -> grey[1] = false; shade(slot[1]) }
     :: atomic { grey[2] -> grey[2] = false; shade(slot[2]) }
#if OBJECTS > 2
     :: atomic { grey[3] -> grey[3] = false; shade(slot[3]) }
#endif
     :: atomic {
          none_is_grey ->
          look(root); look(held[0]); look(held[1]); look(held[2]); look(held[3]);
          sweep(1); sweep(2);
#if OBJECTS > 2
          sweep(3);
#endif
          black[0] = false; black[1] = false;
          phase = OFF;
          minor = true;
          n = 0; i = 0;
          break
        }
     od
  :: else -> break
  od
}
