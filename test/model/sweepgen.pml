/* The sweep generation: a model of gc/sweep.c and alloc/central.c for spin.
 *
 * Two span structures describe two pages, in two centrals: 0 holds small objects, whose spans caches take and give back,
 * 1 holds large ones, whose spans are freed by hand.  There are walkers (background, debt, reclaiming: they claim by
 * address), a thread that allocates, a thread that frees, and the collector, which finishes the sweep, stops the world,
 * flushes the cache and steps the generation, ROUNDS times.  At first there is an unswept span of each central, or the
 * second page and structure have never been used.
 *
 * What is shown, for every order of their steps:
 *   a span is swept at most once in a generation, and exactly once if it lives through one;
 *   a span in use is of the generation of now: caches and frees touch swept spans only;
 *   no span is freed twice, on a list, or in a cache;
 *   a fresh span, whose structure may have been swept before, is never taken for an unswept one.
 *
 * Steps are atomic one by one and seen by all in the same order: the memory orders that make them so are at the code.
 * Numbers of generations do not wrap around.
 *
 * NO_ALLOCATOR, NO_FREER, NO_RECLAIM and WALKERS choose who takes part.
 *
 * With one of these the model is wrong on purpose, and spin must find out:
 *   NO_RECHECK        a claim by address does not look at the generation again under the lock
 *   NO_LOCK           a claim by address takes no lock
 *   GEN_AFTER_STATE   a fresh span is in use before it has its generation
 *   STEP_OUTSIDE      a walker moves the cursor in one critical section and sweeps in the next
 *   FLIP_WHILE_INSIDE the generation steps without a wait for critical sections
 *   NO_WAIT           a free does not wait for another thread's sweep
 *   TAKE_UNSWEPT      a cache takes an unswept span without sweeping it
 *   LIST_LATE         a span counts as swept before it is on its list
 *   FREE_LISTED       a swept span without objects is put on its list before it is freed */

#ifndef ROUNDS
#define ROUNDS 1
#endif
#ifndef WALKERS
#define WALKERS 1
#endif
#define SPANS 2
#define PAGES 2
#define NONE 3

#define SWEPT_LIST (1 + (h / 2) % 2)
#define UNSWEPT_LIST (2 - (h / 2) % 2)

byte h = 2; /* the generation */
bool in_use[SPANS];
byte gen[SPANS];
byte page[SPANS];
byte central[SPANS];
byte list[SPANS]; /* 0: none; 1, 2: the list of a side */
bool in_cache[SPANS];
byte table[PAGES] = NONE; /* may be stale */
bool lock[2], pageheap_lock;
byte cursor, reclaimed;

/* What the program holds: an object of the span keeps it alive. */
bool held[SPANS];
bool live[SPANS]; /* something was marked; decided when marking ends */

byte inside; /* threads in critical sections */
bool stopped, over;

/* For assertions only. */
byte swept_in[SPANS], born_in[SPANS];

inline enter() { atomic { !stopped -> inside++ } }
inline leave() { atomic { inside--; s = NONE; p = 0 } }
inline acquire(l) { atomic { !l -> l = true } }
inline release(l) { l = false }

/* The step to h - 1 was made; the step to h comes with the listing. */
inline sweep(x) {
  atomic {
    assert(in_use[x] && gen[x] == h - 1 && list[x] == 0 && !in_cache[x]);
    assert(swept_in[x] != h && born_in[x] != h);
    swept_in[x] = h
  }
#ifdef LIST_LATE
  gen[x] = h
#endif
}

inline free_span(x) {
  acquire(pageheap_lock);
  atomic {
    assert(in_use[x] && list[x] == 0 && !in_cache[x] && !held[x] && gen[x] == h);
    in_use[x] = false
  }
  release(pageheap_lock)
}

inline put_on_swept_list(x) {
  acquire(lock[central[x]]);
  atomic { assert(list[x] == 0 && in_use[x]); list[x] = SWEPT_LIST }
  gen[x] = h;
  release(lock[central[x]])
}

/* central_claim_many, of one span: `claimed` tells. */
inline claim(x) {
  claimed = false;
  if
  :: gen[x] != h - 2
  :: else ->
     c = central[x];
#ifndef NO_LOCK
     acquire(lock[c]);
#endif
     if
#ifdef NO_RECHECK
     :: true ->
#else
     :: gen[x] == h - 2 && list[x] != 0 ->
#endif
        list[x] = 0;
        gen[x] = h - 1;
        claimed = true
#ifndef NO_RECHECK
     :: else
#endif
     fi;
#ifndef NO_LOCK
     release(lock[c]);
#endif
     c = 0
  fi
}

/* central_sweep_many, of one span */
inline sweep_claimed(x) {
  sweep(x);
  if
  :: live[x] || held[x] -> put_on_swept_list(x)
  :: else ->
#ifdef FREE_LISTED
     put_on_swept_list(x);
#endif
     gen[x] = h;
     free_span(x)
  fi
}

/* sweep_pages on one page. */
inline visit(q) {
  s = table[q];
  if
  :: s == NONE
  :: s != NONE && !in_use[s]
  :: s != NONE && in_use[s] ->
     if
     :: page[s] != q
     :: page[s] == q ->
        atomic {
          assert(!(in_use[s] && born_in[s] == h && gen[s] == h - 2));
          unswept = in_use[s] && gen[s] == h - 2
        }
        if
        :: unswept -> claim(s); if :: claimed -> sweep_claimed(s) :: else fi
        :: else
        fi
     fi
  fi;
  unswept = false;
  claimed = false
}

inline take_step() {
  atomic { p = cursor; if :: cursor < PAGES -> cursor++ :: else fi }
}

inline step() {
  enter();
  take_step();
#ifdef STEP_OUTSIDE
  inside--;
  atomic { !stopped -> inside++ }
#endif
  if :: p < PAGES -> visit(p) :: else fi;
  leave()
}

/* Background and debt by the cursor; reclaiming by a cursor of its own, the dead only. */
proctype walker() {
  byte s = NONE, p, c;
  bool unswept, claimed;
  do
  :: over -> break
  :: !over && cursor < PAGES -> step()
#ifndef NO_RECLAIM
  :: !over && reclaimed < PAGES ->
     enter();
     atomic { p = reclaimed; if :: reclaimed < PAGES -> reclaimed++ :: else fi }
     if
     :: p < PAGES && table[p] != NONE && !live[table[p]] && !held[table[p]] -> visit(p)
     :: else
     fi;
     leave()
#endif
  od
}

/* Any structure that describes nothing, for any page that no span in use has. */
inline fresh(k) {
  acquire(pageheap_lock);
  atomic {
    if
    :: !in_use[0] -> s = 0
    :: !in_use[1] -> s = 1
    :: in_use[0] && in_use[1] -> s = NONE
    fi;
    if
    :: s != NONE && !(in_use[1 - s] && page[1 - s] == 0) -> p = 0
    :: s != NONE && !(in_use[1 - s] && page[1 - s] == 1) -> p = 1
    :: s == NONE
    fi
  }
  if
  :: s != NONE ->
     atomic { page[s] = p; central[s] = k; live[s] = false }
#ifndef GEN_AFTER_STATE
     gen[s] = h;
#endif
     table[p] = s;
     atomic { in_use[s] = true; born_in[s] = h }
#ifdef GEN_AFTER_STATE
     gen[s] = h;
#endif
  :: else
  fi;
  release(pageheap_lock)
}

inline find(k, l) {
  if
  :: in_use[0] && central[0] == k && list[0] == l -> s = 0
  :: in_use[1] && central[1] == k && list[1] == l -> s = 1
  :: else -> s = NONE
  fi
}

/* central_exchange for central 0, with nothing to give; the lock is held from looking at a list until the span is off it. */
inline take() {
  acquire(lock[0]);
  atomic { find(0, SWEPT_LIST); if :: s != NONE -> list[s] = 0; in_cache[s] = true :: else fi }
  if
  :: s != NONE -> release(lock[0])
  :: else ->
     atomic { find(0, UNSWEPT_LIST); if :: s != NONE -> list[s] = 0 :: else fi }
     if
     :: s != NONE ->
#ifdef TAKE_UNSWEPT
        in_cache[s] = true;
        release(lock[0])
#else
        gen[s] = h - 1;
        release(lock[0]);
        sweep(s);
        in_cache[s] = true;
        gen[s] = h
#endif
     :: else ->
        release(lock[0]);
        fresh(0);
        if :: s != NONE -> in_cache[s] = true :: else fi
     fi
  fi
}

/* Its cache holds one span at most. */
byte cached = NONE;

proctype allocator() {
  byte s = NONE, p;
  do
  :: over -> break
  :: !over -> /* a small object */
     enter();
     if
     :: cached == NONE -> take(); cached = s
     :: else -> s = cached
     fi;
     if
     :: s != NONE -> atomic { assert(in_use[s] && in_cache[s] && gen[s] == h); held[s] = true }
     :: else
     fi;
     leave()
  :: !over && cached != NONE -> /* the span is used up */
     enter();
     if
     :: cached != NONE ->
        s = cached;
        cached = NONE;
        acquire(lock[0]);
        atomic { assert(in_use[s] && gen[s] == h && list[s] == 0); in_cache[s] = false; list[s] = SWEPT_LIST }
        release(lock[0])
     :: else
     fi;
     leave()
  :: !over -> /* a large object */
     enter();
     fresh(1);
     if :: s != NONE -> put_on_swept_list(s); held[s] = true :: else fi;
     leave()
  od
}

/* central_ensure_swept, then what midden_free does. */
inline free_object(x) {
  do
  :: gen[x] == h -> break
#ifdef NO_WAIT
  :: gen[x] == h - 1 -> break
#endif
  :: gen[x] == h - 2 ->
     claim(x);
     if :: claimed -> sweep(x); put_on_swept_list(x); claimed = false :: else fi
  od;
  assert(in_use[x] && gen[x] == h);
  if
  :: central[x] == 1 ->
     acquire(lock[1]);
     atomic { assert(list[x] == SWEPT_LIST); list[x] = 0 }
     release(lock[1]);
     held[x] = false;
     free_span(x)
  :: else -> held[x] = false
  fi
}

proctype freer() {
  byte s = NONE, p, c;
  bool claimed;
  do
  :: over -> break
  :: !over && (held[0] || held[1]) ->
     enter();
     atomic {
       if
       :: held[0] -> s = 0
       :: held[1] -> s = 1
       :: true -> s = NONE
       fi
     }
     if :: s != NONE -> free_object(s) :: else fi;
     leave()
  od
}

inline end_of_marking(x) {
  if
  :: in_use[x] ->
     assert(gen[x] == h && (swept_in[x] == h || born_in[x] == h) && list[x] == SWEPT_LIST);
     if :: true -> live[x] = true :: live[x] = held[x] fi
  :: else
  fi
}

proctype collector() {
  byte s = NONE, p, c, round;
  bool unswept, claimed;
  for (round : 1 .. ROUNDS) {
    do
    :: cursor < PAGES -> step()
    :: cursor >= PAGES -> break
    od;
#ifdef FLIP_WHILE_INSIDE
    stopped = true;
#else
    atomic { inside == 0 -> stopped = true }
#endif
    atomic {
      if
      :: cached != NONE -> in_cache[cached] = false; list[cached] = SWEPT_LIST; cached = NONE
      :: else
      fi;
      end_of_marking(0);
      end_of_marking(1);
      h = h + 2;
      cursor = 0;
      reclaimed = 0;
      stopped = false
    }
  }
  over = true
}

init {
  byte i;
  atomic {
    in_use[0] = true;
    gen[0] = h - 2;
    table[0] = 0;
    list[0] = UNSWEPT_LIST;
    if :: true -> held[0] = true; live[0] = true :: live[0] = true :: true fi;
    if
    :: true ->
       in_use[1] = true;
       central[1] = 1;
       page[1] = 1;
       table[1] = 1;
       list[1] = UNSWEPT_LIST;
       if :: true -> held[1] = true; live[1] = true :: live[1] = true :: true fi
    :: true
    fi;
    run collector();
#ifndef NO_ALLOCATOR
    run allocator();
#endif
#ifndef NO_FREER
    run freer();
#endif
    for (i : 1 .. WALKERS) { run walker() }
  }
}
