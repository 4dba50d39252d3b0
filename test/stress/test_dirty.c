/* Random mutators without a barrier, in dirty-page mode.
 *
 * What a collector may lose that marks beside the program is what was moved, by a store that nobody told it of, from where it
 * has not looked yet to where it has been.  So each thread has some thousand places, in objects of every sort and outside,
 * and goes on moving packages (support/package.h) between them, each of which lies in one place at a time:
 *
 *   places     of support/places.h; the thread's frame; frames of deep recursions, of parked coroutines, of threads that begin and end
 *   moves      by single stores, memcpy, and read and recv from a socket pair
 *   meanwhile  packages are freed, moved by midden_realloc, watched by weak references, ephemerons and cleanups; memory is
 *              given back; the process forks, and the child goes on; the program closes descriptors that it does not know
 *
 * Of each place its thread has noted, where no collector sees it, which package lies there.  The check after each mark
 * (MIDDEN_DEBUG=check) finds what was lost before that.
 *
 * The linker puts a step of this file (--wrap, see cmake/tests.cmake) before what reports the pages that were written, which
 * counts them and then waits a little, so that more is written until the next round or the stop.  With the name of a fault as
 * an argument it leaves some out: for test_dirty_missing.c. */
#define _GNU_SOURCE 1
#include <fcntl.h>
#include <pthread.h>
#include <sys/socket.h>

#include "support/coroutine.h"
#include "support/heap_test.h"
#include "support/ledger.h"
#include "support/package.h"
#include "support/places.h"

/* The address sanitizer's build marks less in the same time. */
#if defined(__SANITIZE_ADDRESS__)
enum { SLOWNESS = 4 };
#else
enum { SLOWNESS = 1 };
#endif

enum {
  KEEPERS = PLACES_SETS - 1, /* one is for the child of a fork */
  BAG = 2000,
  WATCHES = 64,
  COROUTINES = 6,
  EXCHANGES = 24,
  DEPTH_MAX = 200,
  RANGE_MAX = 60,
  ROUND_PAUSE_US = 1000
};

struct configuration {
  const char *name;
  size_t steps;   /* of each thread */
  size_t divisor; /* see places_divisor */
  unsigned debug; /* besides the check */
  bool small_pages;
  bool callbacks;   /* roots and events are reported: a thread of the program ends the cycles */
  bool descriptors; /* are closed meanwhile */
  bool forks;
  bool plain; /* neither types nor trace functions: what is young is white */
  bool minor; /* collections: those that the program asks for, which are full, are left out */
};

static const struct configuration configurations[] = {
    {"huge", .steps = 800, .divisor = 1, .forks = true},
    {"small", .steps = 800, .divisor = 1, .small_pages = true},
    {"callbacks", .steps = 800, .divisor = 1, .callbacks = true, .forks = true},
    {"descriptors", .steps = 2000, .divisor = 4, .descriptors = true, .forks = true},
    {"plain", .steps = 800, .divisor = 1, .plain = true, .callbacks = true, .forks = true},
    {"plain-minor", .debug = MIDDEN_DEBUG_VERIFY | MIDDEN_DEBUG_STRESS, .steps = 1600, .divisor = 4, .plain = true,
     .minor = true, .forks = true},
    {"poison", .debug = MIDDEN_DEBUG_POISON, .steps = 1600, .divisor = 4},
    {"stress", .debug = MIDDEN_DEBUG_VERIFY | MIDDEN_DEBUG_STRESS, .steps = 1600, .divisor = 8, .callbacks = true},
    {"minor", .debug = MIDDEN_DEBUG_VERIFY | MIDDEN_DEBUG_STRESS, .steps = 1600, .divisor = 4, .minor = true,
     .forks = true},
    {"minor-small", .debug = MIDDEN_DEBUG_STRESS, .steps = 1600, .divisor = 8, .minor = true, .descriptors = true,
     .small_pages = true},
};

static const struct configuration *chosen;
static size_t steps; /* of each thread */

/* ---- what is reported of the pages ---- */

/* The library's own, as src/mutator/written.h has them: what is wrapped, and whether the system can tell. */
struct os_range {
  uintptr_t start, end;
};
bool mark_may_postpone(void); /* gc/mark.h */

typedef void written_visit_fn(void *argument, struct os_range range);
bool written_is_available(void);
void os_init(void);
extern size_t dirty_join_least_bytes; /* smaller heaps have no huge pages joined */
extern size_t roots_long_bytes;       /* of shorter ranges of static data it is not asked what was written */
extern bool guard_active;             /* span/guard.h */
int __real_os_dirty_join(void *start, size_t bytes);
int __wrap_os_dirty_join(void *start, size_t bytes);

enum fault { FAULT_NONE, FAULT_ALL, FAULT_STOP, FAULT_HALF, FAULT_STATIC };
static const char *const fault_names[] = {"sound", "missing", "missing-stop", "missing-half", "missing-static"};
static enum fault fault; /* constant after start */

static size_t rounds, written_in_rounds, written_in_stops; /* atomic; the first counts parts, the others bytes */
static size_t joined;                                      /* atomic; huge pages */
static size_t static_told; /* atomic; how often it was heard what was written of static data */

int __wrap_os_dirty_join(void *start, size_t bytes) {
  int error = __real_os_dirty_join(start, bytes);
  if (error == 0) __atomic_fetch_add(&joined, 1, __ATOMIC_RELAXED);
  return error;
}

struct visit {
  written_visit_fn *function;
  void *argument;
  size_t count;
};

static void visit_every_second(void *argument, struct os_range range) {
  struct visit *visit = argument;
  if (visit->count++ % 2 == 0) visit->function(visit->argument, range);
}

static void pause_us(size_t us) {
  struct timespec time = {0, (long)us * 1000};
  nanosleep(&time, NULL);
}

/* The names are the linker's. */
ptrdiff_t __real_written_visit(size_t part, bool protect, written_visit_fn *function, void *argument);
ptrdiff_t __wrap_written_visit(size_t part, bool protect, written_visit_fn *function, void *argument);

ptrdiff_t __wrap_written_visit(size_t part, bool protect, written_visit_fn *function, void *argument) {
  struct visit visit = {function, argument, 0};
  if (fault == FAULT_ALL || (fault == FAULT_STOP && !protect)) return 0;
  ptrdiff_t bytes = fault == FAULT_HALF ? __real_written_visit(part, protect, visit_every_second, &visit)
                                        : __real_written_visit(part, protect, function, argument);
  if (bytes >= 0 && protect) __atomic_fetch_add(&rounds, 1, __ATOMIC_RELAXED);
  if (bytes > 0) __atomic_fetch_add(protect ? &written_in_rounds : &written_in_stops, (size_t)bytes, __ATOMIC_RELAXED);
  /* The stop alone sees what was on stacks during all of the rounds: the shorter they are, the more. */
  if (protect && fault != FAULT_STOP) pause_us(ROUND_PAUSE_US);
  return bytes;
}

ptrdiff_t __real_written_visit_outside(struct os_range pages, bool protect, written_visit_fn *function, void *argument);
ptrdiff_t __wrap_written_visit_outside(struct os_range pages, bool protect, written_visit_fn *function, void *argument);

ptrdiff_t __wrap_written_visit_outside(struct os_range pages, bool protect, written_visit_fn *function,
                                       void *argument) {
  if (fault == FAULT_STATIC) return 0;
  ptrdiff_t bytes = __real_written_visit_outside(pages, protect, function, argument);
  if (bytes >= 0) __atomic_fetch_add(&static_told, 1, __ATOMIC_RELAXED);
  return bytes;
}

/* ---- a thread and what it has ---- */

struct watch {
  uint64_t serial; /* of the package; 0 for none */
  uint64_t value_serial;
  const struct ledger_entry *entry;
};

struct keeper {
  struct rng rng;
  size_t number;
  struct places places;
  struct watch watch[WATCHES];
  struct coroutine *coroutine; /* COROUTINES of them, in malloc's memory */
  int sockets[2];
};

static void *watchers[PLACES_SETS]; /* of weak references and ephemerons, by turns */
static void *exchanges[EXCHANGES];
static _Thread_local uintptr_t own_keeper; /* disguised, for coroutines */
static _Thread_local bool is_the_programs; /* the thread */

static void *required(void *object) { return places_required(object); }

static size_t random_place(struct keeper *self) { return rng_below(&self->rng, self->places.count); }
static void *look(struct keeper *self, size_t i) { return places_look(&self->places, i); }
static void *take(struct keeper *self, size_t i) { return places_take(&self->places, i); }
static void put(struct keeper *self, size_t i, void *name) { places_put(&self->places, i, name); }

/* What lies in `bag`, in the caller's frame, is seen when the thread is scanned, and again in the stop. */
static void set_up(struct keeper *self, void **bag) {
  own_keeper = test_hide(self);
  places_make(&self->rng, &self->places, self->number, bag, BAG);
  self->coroutine = required(calloc(COROUTINES, sizeof(*self->coroutine)));
  watchers[self->number] = required(midden_alloc(2 * WATCHES * sizeof(void *)));
  REQUIRE(socketpair(AF_UNIX, SOCK_STREAM, 0, self->sockets) == 0, "socketpair: %s", strerror(errno));
}

static void drop(struct keeper *self, void *name) {
  if (rng_one_in(&self->rng, 3)) package_check(name);
  if (rng_one_in(&self->rng, 3)) {
    package_free(name);
  } else {
    package_dropped(name);
  }
}

/* Into an empty place, if there is one to be found. */
static void put_anywhere(struct keeper *self, void *name) {
  for (int tries = 0; tries < 20 && name != NULL; tries++) {
    size_t i = random_place(self);
    if (self->places.serial[i] != 0) continue;
    put(self, i, name);
    return;
  }
  drop(self, name);
}

/* ---- operations ---- */

static void meanwhile(struct rng *rng) {
  for (size_t i = rng_size(rng, 30); i-- > 0;) required(midden_alloc(rng_size(rng, 600)));
}

/* The name in a register, if anywhere. */
NOINLINE_TEST static void *compute(struct rng *rng, void *name) {
  uint64_t sum = 0;
  for (size_t i = rng_size(rng, 5000); i-- > 0;) {
    sum = test_mix(sum + i);
    __asm__ volatile("" : "+r"(name), "+r"(sum));
  }
  return name;
}

static void op_move(struct keeper *self) {
  for (int times = 0; times < 20; times++) {
    size_t from = random_place(self), to = random_place(self);
    void *name = take(self, from);
    if (times == 0) name = compute(&self->rng, name);
    void *other = from == to ? NULL : take(self, to);
    put(self, from, other);
    put(self, to, name);
  }
}

static void op_check(struct keeper *self) {
  for (int times = 0; times < 20; times++) package_check(look(self, random_place(self)));
}

static void op_renew(struct keeper *self) {
  for (int times = 0; times < 4; times++) {
    size_t i = random_place(self);
    void *fresh = rng_one_in(&self->rng, 4) ? NULL : package_new(&self->rng);
    drop(self, take(self, i));
    put(self, i, fresh);
  }
}

static void op_turn(struct keeper *self) { package_turn(&self->rng, look(self, random_place(self)), meanwhile); }

/* Through fresh objects, which are black, and back. */
static void op_wrap(struct keeper *self) {
  size_t i = random_place(self);
  void *wrap = package_wrap(take(self, i));
  if (rng_one_in(&self->rng, 2)) wrap = package_wrap(wrap);
  meanwhile(&self->rng);
  put(self, i, package_unwrap(&self->rng, wrap));
}

static bool is_watched(const struct keeper *self, uint64_t serial) {
  for (size_t i = 0; i < WATCHES; i++) {
    if (self->watch[i].serial == serial) return true;
  }
  return false;
}

static void op_resize(struct keeper *self) {
  size_t i = random_place(self);
  if (!is_watched(self, self->places.serial[i])) put(self, i, package_resize(&self->rng, take(self, i)));
}

NOINLINE_TEST static void descend(struct keeper *self, size_t depth) {
  size_t i = random_place(self);
  void *name = take(self, i);
  if (depth != 0) {
    descend(self, depth - 1);
  } else if (rng_one_in(&self->rng, 4)) {
    midden_collect();
  } else {
    meanwhile(&self->rng);
  }
  if (self->places.serial[i] == 0) {
    put(self, i, name);
  } else {
    put_anywhere(self, name);
  }
}

static void op_descend(struct keeper *self) { descend(self, rng_size(&self->rng, DEPTH_MAX)); }

static void op_exchange(struct keeper *self) {
  for (int times = 0; times < 10; times++) {
    size_t i = random_place(self);
    void *name = take(self, i);
    put(self, i, __atomic_exchange_n(&exchanges[rng_below(&self->rng, EXCHANGES)], name, __ATOMIC_ACQ_REL));
  }
}

static void op_collect(struct keeper *self) {
  (void)self;
  midden_collect();
}

static void op_litter(struct keeper *self) {
  required(midden_alloc(rng_size(&self->rng, rng_one_in(&self->rng, 8) ? 300000 : 2000)));
}

/* ---- ranges ---- */

/* Two runs of places side by side, which do not overlap. */
static bool choose_ranges(struct keeper *self, size_t *first, size_t *second, size_t *count) {
  size_t start = self->places.row, half = (self->places.count - start) / 2;
  *count = rng_size(&self->rng, RANGE_MAX);
  if (half <= RANGE_MAX) return false;
  *first = start + rng_below(&self->rng, half - *count);
  *second = start + half + rng_below(&self->rng, half - *count);
  return true;
}

static void look_all(struct keeper *self, size_t first, size_t count) {
  for (size_t i = 0; i < count; i++) look(self, first + i);
}

NOINLINE_TEST static void op_copy(struct keeper *self) {
  void *buffer[RANGE_MAX];
  size_t first, second, count;
  if (!choose_ranges(self, &first, &second, &count)) return;
  memcpy(buffer, places_slot(&self->places, first), count * sizeof(void *));
  memmove(places_slot(&self->places, first), places_slot(&self->places, second), count * sizeof(void *));
  memcpy(places_slot(&self->places, second), buffer, count * sizeof(void *));
  places_swap_notes(&self->places, first, second, count);
  look_all(self, first, count);
  look_all(self, second, count);
}

static void receive(struct keeper *self, void *to, size_t bytes) {
  int from = self->sockets[1];
  ssize_t got = rng_one_in(&self->rng, 2) ? read(from, to, bytes) : recv(from, to, bytes, MSG_WAITALL);
  REQUIRE(got == (ssize_t)bytes, "received %zd of %zu bytes", got, bytes);
}

/* The kernel writes the pointers into an empty run.  The old one holds them until then. */
NOINLINE_TEST static void op_receive(struct keeper *self) {
  size_t first, second, count;
  if (!choose_ranges(self, &first, &second, &count)) return;
  size_t bytes = count * sizeof(void *);
  for (size_t i = 0; i < count; i++) drop(self, take(self, second + i));
  REQUIRE(send(self->sockets[0], places_slot(&self->places, first), bytes, 0) == (ssize_t)bytes, "send");
  receive(self, places_slot(&self->places, second), bytes);
  memset(places_slot(&self->places, first), 0, bytes);
  places_swap_notes(&self->places, first, second, count);
  look_all(self, second, count);
}

/* ---- weak references ---- */

/* Of guarded ephemerons the trace function is called in stops alone. */
static bool has_ephemerons(void) { return !chosen->plain || !guard_active; }

static void *watched_new(void *name, void *value) {
  return has_ephemerons() ? required(midden_ephemeron_new(name, value)) : value;
}

static void *watched_value(void *watched) { return has_ephemerons() ? midden_ephemeron_value(watched) : watched; }

static void watched_is_dead(void *argument) { ledger_tell(argument); }

NOINLINE_TEST static void op_watch(struct keeper *self) {
  size_t at = rng_below(&self->rng, WATCHES);
  void *name = look(self, random_place(self));
  if (name == NULL || is_watched(self, node_check(name)->serial)) return;
  midden_word *slots = watchers[self->number];
  struct watch *watch = &self->watch[at];
  struct node *value = node_new(NODE_LEAF, 0);
  struct ledger_entry *entry = ledger_add(node_check(name)->serial);
  *watch = (struct watch){node_check(name)->serial, value->serial, entry};
  slots[2 * at] = required(midden_weak_new(name));
  slots[2 * at + 1] = watched_new(name, node_name(value));
  int error = midden_cleanup_add(node_check(name), watched_is_dead, entry, NULL);
  REQUIRE(error == 0, "midden_cleanup_add: %d", error);
}

static bool is_in_place(const struct keeper *self, uint64_t serial) {
  for (size_t i = 0; i < self->places.count; i++) {
    if (self->places.serial[i] == serial) return true;
  }
  return false;
}

NOINLINE_TEST static void op_look(struct keeper *self) {
  size_t at = rng_below(&self->rng, WATCHES);
  const struct watch *watch = &self->watch[at];
  midden_word *slots = watchers[self->number];
  if (watch->serial == 0) return;
  bool is_held = is_in_place(self, watch->serial);
  const struct node *node = node_check(midden_weak_get(slots[2 * at]));
  const struct node *value = node_check(watched_value(slots[2 * at + 1]));
  REQUIRE(node == NULL || node->serial == watch->serial, "a weak reference leads to another node");
  REQUIRE(value == NULL || value->serial == watch->value_serial, "an ephemeron leads to another node");
  if (!is_held) return;
  REQUIRE(node != NULL && value != NULL, "weak references to a held package are cleared");
  ledger_check(watch->entry, node);
}

static void op_cleanups(struct keeper *self) { midden_finalizers_run(1 + rng_below(&self->rng, 100)); }

/* ---- coroutines ---- */

/* A package lies in this frame while others run. */
NOINLINE_TEST static void coroutine_turn(struct coroutine *coroutine, struct keeper *keeper) {
  void *name = take(keeper, random_place(keeper)), *other = package_wrap(take(keeper, random_place(keeper)));
  coroutine_leave(coroutine);
  package_check(name);
  put_anywhere(keeper, name);
  put_anywhere(keeper, package_unwrap(&keeper->rng, other));
}

static void coroutine_main(void) {
  struct coroutine *self = coroutine_begin();
  for (size_t turns = 1 + rng_below(&self->rng, 20); turns-- > 0;) coroutine_turn(self, test_unhide(own_keeper));
  coroutine_end(self);
}

static void op_coroutine(struct keeper *self) {
  struct coroutine *coroutine = &self->coroutine[rng_below(&self->rng, COROUTINES)];
  if (coroutine->stack == NULL || coroutine->ended) coroutine_start(coroutine, &self->rng, coroutine_main);
  coroutine_enter(coroutine);
}

static void end_coroutines(struct keeper *self) {
  for (size_t i = 0; i < COROUTINES; i++) {
    struct coroutine *coroutine = &self->coroutine[i];
    while (coroutine->stack != NULL && !coroutine->ended) coroutine_enter(coroutine);
    REQUIRE(midden_stack_free(coroutine->stack) == 0, "midden_stack_free");
  }
}

/* ---- threads ---- */

struct birth {
  struct rng rng;
  void *package;
};

NOINLINE_TEST static void live(struct birth *birth) {
  void *name = birth->package;
  birth->package = NULL;
  package_turn(&birth->rng, name, meanwhile);
  places_local[0] = package_wrap(name);
  name = NULL;
  meanwhile(&birth->rng);
  if (rng_one_in(&birth->rng, 4)) midden_collect();
  birth->package = package_unwrap(&birth->rng, places_local[0]);
}

static size_t births; /* atomic */

static void *born(void *argument) {
  is_the_programs = true;
  REQUIRE(midden_thread_attach() == 0, "midden_thread_attach");
  node_begin_thread(PLACES_SETS + __atomic_fetch_add(&births, 1, __ATOMIC_RELAXED));
  live(argument);
  return NULL;
}

static void *join(void *argument) {
  pthread_join(*(pthread_t *)argument, NULL);
  return NULL;
}

/* In between the only reference is the new thread's. */
NOINLINE_TEST static void op_thread(struct keeper *self) {
  pthread_t thread;
  size_t i = random_place(self);
  struct birth birth = {.rng = {rng_next(&self->rng)}, .package = take(self, i)};
  int error = pthread_create(&thread, NULL, born, &birth);
  REQUIRE(error == 0, "pthread_create: %s", strerror(error));
  midden_blocking_call(join, &thread);
  put(self, i, birth.package);
}

/* ---- the program ---- */

struct operation {
  void (*run)(struct keeper *self);
  unsigned weight;
};

static const struct operation operations[] = {
    {op_move, 3000},  {op_check, 500},    {op_renew, 1500},  {op_turn, 1000},     {op_wrap, 800},  {op_resize, 300},
    {op_descend, 60}, {op_exchange, 300}, {op_collect, 3},   {op_litter, 300},    {op_copy, 200},  {op_receive, 60},
    {op_watch, 200},  {op_look, 200},     {op_cleanups, 20}, {op_coroutine, 200}, {op_thread, 15},
};

static unsigned operations_weight; /* constant after start */

static void random_operation(struct keeper *self) {
  size_t at = rng_below(&self->rng, operations_weight), i = 0;
  while (at >= operations[i].weight) at -= operations[i++].weight;
  operations[i].run(self);
}

static size_t keepers_running; /* atomic */

NOINLINE_TEST static void keep(struct keeper *self, size_t count) {
  void *bag[BAG] = {NULL};
  node_begin_thread(self->number);
  set_up(self, bag);
  for (size_t i = 0; i < self->places.count; i++) put(self, i, package_new(&self->rng));
  for (size_t i = 0; i < count; i++) random_operation(self);
  end_coroutines(self);
  for (size_t i = 0; i < self->places.count; i++) package_check(look(self, i));
}

static void *keeper_main(void *argument) {
  is_the_programs = true;
  REQUIRE(midden_thread_attach() == 0, "midden_thread_attach");
  keep(argument, steps);
  __atomic_fetch_sub(&keepers_running, 1, __ATOMIC_RELEASE);
  return NULL;
}

/* ---- meanwhile ---- */

static void hear(enum midden_event event, void *argument) {
  (void)argument;
  REQUIRE(is_the_programs, "event %d in a thread that is not the program's", (int)event);
}

/* What is not standard input, output, error or a socket is unknown to this program: closes it, or puts something else in
 * its place. */
static void close_unknown(struct rng *rng) {
  int null = open("/dev/null", O_RDWR | O_CLOEXEC);
  for (int number = 3; number < 1100; number++) {
    int type;
    socklen_t length = sizeof(type);
    bool is_known = number == null || getsockopt(number, SOL_SOCKET, SO_TYPE, &type, &length) == 0;
    if (is_known || fcntl(number, F_GETFD) < 0 || rng_one_in(rng, 3)) continue;
    if (rng_one_in(rng, 2)) {
      close(number);
    } else {
      dup2(null, number);
    }
  }
  close(null);
}

/* Only this thread is here.  Nothing is watched, and cycles must not believe that nothing is written. */
static int go_on(void *argument) {
  struct keeper keeper = {.rng = {rng_next(argument)}, .number = KEEPERS};
  rounds = 0;
  for (size_t i = 0; i < EXCHANGES; i++) package_check(exchanges[i]);
  keep(&keeper, 100);
  midden_collect();
  for (size_t i = 0; i < EXCHANGES; i++) package_check(exchanges[i]);
  midden_verify();
  return chosen->descriptors || fault != FAULT_NONE || rounds != 0 ? 0 : 3;
}

static void disturb(struct rng *rng) {
  if (chosen->forks && TEST_CHILD_MAY_COLLECT && rng_one_in(rng, 12)) test_child_succeeds("the child", go_on, rng, 120);
  if (chosen->descriptors && rng_one_in(rng, 4)) close_unknown(rng);
  if (rng_one_in(rng, 6)) midden_release_memory();
  if (chosen->minor) {
    midden_verify();
  } else if (rng_one_in(rng, 3)) {
    midden_collect();
  }
}

/* ---- start ---- */

static void start(struct rng *rng) {
  struct midden_options options = {.size = sizeof(options),
                                   .mode = MIDDEN_MODE_DIRTY,
                                   .brief_stop_us = -1,
                                   .min_heap_bytes = 1 << 20,
                                   .markers = 1 + (unsigned)rng_below(rng, 3),
                                   .debug = MIDDEN_DEBUG_CHECK | chosen->debug,
                                   .stress_interval = 20000,
                                   .percent = chosen->minor        ? 300
                                              : rng_one_in(rng, 2) ? 20
                                                                   : 50,
                                   .generations = chosen->minor ? MIDDEN_GENERATIONS_ALWAYS : MIDDEN_GENERATIONS_AUTO,
                                   .small_pages = chosen->small_pages,
                                   .idle_collect_ms = -1};
  int error = midden_init(&options);
  REQUIRE(error == 0, "midden_init: %s", strerror(-error));
  dirty_join_least_bytes = roots_long_bytes = 0;
  node_only_plain = chosen->plain;
  node_never_traced = chosen->plain && guard_active; /* then all trace functions are called in stops alone */
  node_make_kinds();
  places_start(chosen->callbacks);
  if (chosen->callbacks) midden_set_event_callback(hear, NULL);
}

static void run_keepers(struct rng *rng, struct keeper *keepers) {
  pthread_t threads[KEEPERS];
  keepers_running = KEEPERS;
  for (size_t i = 0; i < KEEPERS; i++) {
    keepers[i] = (struct keeper){.rng = {rng_next(rng)}, .number = i};
    int error = pthread_create(&threads[i], NULL, keeper_main, &keepers[i]);
    REQUIRE(error == 0, "pthread_create: %s", strerror(error));
  }
  while (__atomic_load_n(&keepers_running, __ATOMIC_ACQUIRE) != 0) {
    pause_us(rng_below(rng, 20000));
    disturb(rng);
  }
  for (size_t i = 0; i < KEEPERS; i++) pthread_join(threads[i], NULL);
}

/* All that was made and not dropped lies somewhere; thread-local storage is gone. */
static void count_packages(const struct keeper *keepers) {
  size_t found = 0;
  for (size_t i = 0; i < EXCHANGES; i++) found += exchanges[i] != NULL;
  for (size_t i = 0; i < KEEPERS; i++) found += places_filled(&keepers[i].places);
  REQUIRE(found == packages_made - packages_gone, "%zu packages of %zu are there", found,
          packages_made - packages_gone);
}

static void run_chosen(void) {
  static struct keeper keepers[KEEPERS];
  struct rng rng = {test_mix(test_seed_value + (uint64_t)(chosen - configurations))};
  steps = test_steps(chosen->steps);
  places_divisor = chosen->divisor * SLOWNESS;
  is_the_programs = true;
  node_fault = NODE_FAULT_NO_BARRIER;
  alarm((unsigned)(240 + steps / 100)); /* a hang is a failure too */
  start(&rng);
  node_begin_thread(PLACES_SETS + 100000);
  for (size_t i = 0; i < TEST_COUNT_OF(operations); i++) operations_weight += operations[i].weight;
  run_keepers(&rng, keepers);
  count_packages(keepers);
  midden_verify();
  struct midden_stats stats = test_stats();
  printf("  %-11s %" PRIu64 " collections, %" PRIu64
         " of them minor, heap of %zu MiB, written in rounds %zu MiB, in stops %zu MiB, %zu huge pages joined\n",
         chosen->name, stats.collections, stats.collections_minor, stats.heap_in_use >> 20, written_in_rounds >> 20,
         written_in_stops >> 20, joined);
  fflush(stdout);
  REQUIRE(written_in_rounds != 0 || fault != FAULT_NONE, "no cycle ran beside the program");
  REQUIRE(mark_may_postpone() != chosen->plain, "there are trace functions or types, or none");
  REQUIRE(static_told != 0 || fault != FAULT_NONE, "nothing was heard of static data");
  REQUIRE(stats.collections_minor != 0 || !chosen->minor || fault != FAULT_NONE, "no cycle was minor");
}

static int run_in_child(void *argument) {
  chosen = argument;
  run_chosen();
  return 0;
}

static int ask_system(void *unused) {
  (void)unused;
  os_init();
  if (written_is_available()) return 0;
  printf("written pages cannot be told\n");
  fflush(stdout);
  return TEST_SKIPPED;
}

/* A word is the name of a fault, or of a configuration. */
static bool understand(const char *word) {
  for (size_t i = 0; i < TEST_COUNT_OF(fault_names); i++) {
    if (strcmp(word, fault_names[i]) == 0) return fault = (enum fault)i, true;
  }
  for (size_t i = 0; i < TEST_COUNT_OF(configurations); i++) {
    if (strcmp(word, configurations[i].name) == 0) return chosen = &configurations[i], true;
  }
  return false;
}

/* With the name of a configuration that one alone, in this process; else each in a child.  "available" alone: only whether
 * there is something to test. */
int main(int count, char **arguments) {
  bool is_asked = count == 2 && strcmp(arguments[1], "available") == 0;
  if (is_asked) return ask_system(NULL);
  test_start("test_dirty");
  for (int i = 1; i < count; i++) REQUIRE(understand(arguments[i]), "no configuration or fault: %s", arguments[i]);
  if (test_child(ask_system, NULL, 20).status != 0) return TEST_SKIPPED;
  if (chosen != NULL) {
    run_chosen();
    return 0;
  }
  for (size_t i = 0; i < TEST_COUNT_OF(configurations); i++) {
    const struct configuration *next = &configurations[i];
    test_child_succeeds(next->name, run_in_child, (void *)(uintptr_t)next, 600);
  }
  return 0;
}
