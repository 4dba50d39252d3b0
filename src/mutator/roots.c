#include "mutator/roots.h"

#include "base/atomic.h"
#include "base/bits.h"
#include "mutator/ranges.h"
#include "mutator/world.h"
#include "mutator/written.h"

enum { TLS_MODULES_MAX = 512, PIECE_BYTES = 32 * 1024, PROTECTED_BYTES = 4 << 20 };

static struct lock lock = LOCK_INIT(LOCK_RANK_ROOTS);
static struct ranges added, excluded; /* under lock; read while the world is stopped */

/* Written while the world is stopped. */
static NOT_A_ROOT struct {
  struct ranges data;
  struct os_tls_module tls[TLS_MODULES_MAX];
  size_t tls_count;
  uint64_t generation;
  bool known; /* false: to be learned at the next stop */
} modules;

static bool modules_stale;              /* atomic; learn all again */
static bool scan_modules = true;        /* atomic */
static bool data_was_read;              /* atomic; all of modules.data, since it was protected */
static midden_module_filter_fn *filter; /* atomic */

int roots_add(struct os_range range) {
  lock_acquire(&lock);
  int error = ranges_add(&added, range);
  lock_release(&lock);
  return error;
}

int roots_remove(struct os_range range) {
  lock_acquire(&lock);
  int error = ranges_remove(&added, range);
  lock_release(&lock);
  return error;
}

int roots_exclude(struct os_range range) {
  lock_acquire(&lock);
  int error = ranges_add(&excluded, range);
  lock_release(&lock);
  return error;
}

void roots_visit_added_in(struct os_range range, roots_visit_fn *visit, void *argument) {
  lock_acquire(&lock);
  for (size_t i = ranges_first_beyond(&added, range.start); i < added.count; i++) {
    struct os_range item = added.items[i];
    if (item.start >= range.end) break;
    visit(argument, (struct os_range){max_size(item.start, range.start), min_size(item.end, range.end)});
  }
  lock_release(&lock);
}

void roots_scan_modules(bool scan) { atomic_store_release(&scan_modules, scan); }

void roots_learn_anew(void) { atomic_store_release(&modules_stale, true); }

void roots_set_module_filter(midden_module_filter_fn *function) {
  atomic_store_release(&filter, function);
  roots_learn_anew();
}

/* Whether the modules must be learned anew; if so, everything about them is forgotten. */
static bool forget_if_stale(uint64_t generation) {
  bool stale = atomic_exchange_acquire(&modules_stale, false);
  if (modules.known && modules.generation == generation && !stale) return false;
  atomic_store_relaxed(&data_was_read, false);
  modules.known = true;
  modules.generation = generation;
  modules.tls_count = 0;
  ranges_clear(&modules.data);
  return true;
}

/* Called by the loader's visit, the loader's lock held: the moment to stop the world. */
static bool stop_and_compare(void *argument, uint64_t generation) {
  world_stop(argument);
  return forget_if_stale(generation);
}

static bool is_wanted(const struct os_module *module, struct os_range data) {
  midden_module_filter_fn *ask = atomic_load_acquire(&filter);
  return ask == NULL || ask(module->name, (void *)data.start, data.end - data.start);
}

static void learn_module(void *argument, const struct os_module *module) {
  (void)argument;
  for (size_t i = 0; i < module->data_count; i++) {
    if (!is_wanted(module, module->data[i])) continue;
    if (ranges_add(&modules.data, module->data[i]) != 0) modules.known = false;
  }
  if (module->tls.module == 0 || module->tls.bytes == 0) return;
  CHECK(modules.tls_count < TLS_MODULES_MAX, "more than %d objects have thread-local storage", TLS_MODULES_MAX);
  modules.tls[modules.tls_count++] = module->tls;
}

bool roots_stop_world(struct mutator *self) {
  os_visit_modules(stop_and_compare, learn_module, self);
  return modules.known;
}

void roots_visit_added(roots_visit_fn *visit, void *argument) {
  for (size_t i = 0; i < added.count; i++) visit(argument, added.items[i]);
}

void roots_visit_modules(roots_visit_fn *visit, void *argument) {
  if (!atomic_load_acquire(&scan_modules)) return;
  for (size_t i = 0; i < modules.data.count; i++)
    ranges_visit_outside(&excluded, modules.data.items[i], visit, argument);
}

/* ---- what was written ---- */

size_t roots_long_bytes = 128 << 10;

/* The pages of a range that belong to nothing else; none, if it is short. */
static struct os_range long_part(struct os_range range) {
  size_t page_bytes = os_page_bytes();
  struct os_range pages = {round_up(range.start, page_bytes), round_down(range.end, page_bytes)};
  bool is_long = pages.start < pages.end && pages.end - pages.start >= roots_long_bytes;
  return is_long ? pages : (struct os_range){range.end, range.end};
}

struct included {
  roots_visit_fn *visit;
  void *argument;
};

static void visit_included(void *argument, struct os_range range) {
  const struct included *included = argument;
  ranges_visit_outside(&excluded, range, included->visit, included->argument);
}

/* In bytes. */
static size_t visit_written(struct os_range pages, bool protect, struct included *included) {
  ptrdiff_t bytes = written_visit_outside(pages, protect, visit_included, included);
  if (bytes >= 0) return (size_t)bytes;
  visit_included(included, pages);
  return pages.end - pages.start;
}

/* A page that an earlier cycle has protected says nothing of this one, unless this one has read it. */
void roots_visit_modules_written(roots_visit_fn *visit, void *argument) {
  struct included included = {visit, argument};
  if (!atomic_load_relaxed(&data_was_read)) {
    roots_visit_modules(visit, argument);
    return;
  }
  if (!atomic_load_acquire(&scan_modules)) return;
  for (size_t i = 0; i < modules.data.count; i++) {
    struct os_range range = modules.data.items[i], pages = long_part(range);
    visit_included(&included, (struct os_range){range.start, pages.start});
    if (pages.start < pages.end) visit_written(pages, false, &included);
    visit_included(&included, (struct os_range){pages.end, range.end});
  }
}

const struct os_tls_module *roots_tls_modules(size_t *count) {
  *count = modules.tls_count;
  return modules.tls;
}

/* ---- while the world runs ---- */

struct learning {
  struct mutator *self;
  bool gate_closed;
};

/* Threads that are in critical sections may be reading the list; none of them waits for the loader. */
static bool close_gate_and_compare(void *argument, uint64_t generation) {
  struct learning *learning = argument;
  if (modules.known && modules.generation == generation && !atomic_load_relaxed(&modules_stale)) return false;
  lock_acquire(&mutator_list_lock);
  mutator_close_gate(learning->self);
  learning->gate_closed = true;
  return forget_if_stale(generation);
}

bool roots_learn(struct mutator *self) {
  struct learning learning = {.self = self};
  os_visit_modules(close_gate_and_compare, learn_module, &learning);
  if (learning.gate_closed) {
    mutator_open_gate();
    lock_release(&mutator_list_lock);
  }
  return modules.known;
}

/* The first piece of the added ranges at or after `from`; false if there is none. */
static bool added_piece_locked(uintptr_t from, struct os_range *piece) {
  size_t i = ranges_first_beyond(&added, from);
  if (i == added.count) return false;
  uintptr_t start = max_size(added.items[i].start, from);
  *piece = (struct os_range){start, min_size(added.items[i].end, start + PIECE_BYTES)};
  return true;
}

bool roots_first_added_in(struct os_range range, struct os_range *piece) {
  lock_acquire(&lock);
  bool found = added_piece_locked(range.start, piece) && piece->start < range.end;
  lock_release(&lock);
  if (found) piece->end = min_size(piece->end, range.end);
  return found;
}

/* Between pieces ranges may come and go. */
static void visit_added(void (*visit)(void *argument, struct os_range range), void *argument) {
  struct os_range piece = {0};
  for (bool found = true; found;) {
    lock_acquire(&lock);
    found = added_piece_locked(piece.end, &piece);
    if (found) visit(argument, piece);
    lock_release(&lock);
  }
}

/* A walk over ranges of modules.data, piece by piece: each is there while it is acted on. */
struct piece_walk {
  void (*act)(struct piece_walk *walk);
  roots_visit_fn *visit;
  void *argument;
  struct os_range piece;
  size_t bytes; /* that were written */
  bool changed; /* an object was loaded or unloaded meanwhile: the walk is over */
};

/* The loader's lock is held: what was learned is still there if the generation is. */
static bool act_here(void *argument, uint64_t generation) {
  struct piece_walk *walk = argument;
  walk->changed = generation != modules.generation;
  if (!walk->changed) walk->act(walk);
  return false;
}

/* `piece_bytes` is a power of two. */
static void walk_range(struct piece_walk *walk, struct os_range range, size_t piece_bytes) {
  for (; range.start < range.end && !walk->changed; range.start = walk->piece.end) {
    walk->piece.start = range.start;
    walk->piece.end = min_size(range.end, round_down(range.start, piece_bytes) + piece_bytes);
    os_visit_modules(act_here, NULL, walk);
  }
}

static void walk_long_parts(struct piece_walk *walk, size_t piece_bytes) {
  if (!atomic_load_acquire(&scan_modules)) return;
  for (size_t i = 0; i < modules.data.count; i++) walk_range(walk, long_part(modules.data.items[i]), piece_bytes);
}

static void visit_piece(struct piece_walk *walk) {
  lock_acquire(&lock);
  ranges_visit_outside(&excluded, walk->piece, walk->visit, walk->argument);
  lock_release(&lock);
}

/* False if an object was loaded or unloaded meanwhile. */
static bool visit_modules(roots_visit_fn *visit, void *argument) {
  struct piece_walk walk = {.act = visit_piece, .visit = visit, .argument = argument};
  for (size_t i = 0; i < modules.data.count; i++) walk_range(&walk, modules.data.items[i], PIECE_BYTES);
  return !walk.changed;
}

bool roots_visit_running(struct mutator *self, void (*visit)(void *argument, struct os_range range), void *argument) {
  visit_added(visit, argument);
  if (!atomic_load_acquire(&scan_modules)) return true;
  while (!visit_modules(visit, argument)) {
    if (!roots_learn(self)) return false;
  }
  atomic_store_relaxed(&data_was_read, true);
  return true;
}

static void protect_piece(struct piece_walk *walk) { written_protect_outside(walk->piece); }

void roots_protect(void) {
  atomic_store_relaxed(&data_was_read, false);
  walk_long_parts(&(struct piece_walk){.act = protect_piece}, PROTECTED_BYTES);
}

static void visit_written_piece(struct piece_walk *walk) {
  struct included included = {walk->visit, walk->argument};
  lock_acquire(&lock);
  walk->bytes += visit_written(walk->piece, true, &included);
  lock_release(&lock);
}

/* Where an object is loaded or unloaded meanwhile, the rest is left to the next visit. */
size_t roots_visit_written_running(roots_visit_fn *visit, void *argument) {
  struct piece_walk walk = {.act = visit_written_piece, .visit = visit, .argument = argument};
  walk_long_parts(&walk, max_size(PIECE_BYTES, os_page_bytes()));
  return walk.bytes;
}
