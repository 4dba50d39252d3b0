#include "gc/rootset.h"

#include <string.h>

#include "alloc/central.h"
#include "base/atomic.h"
#include "base/bits.h"
#include "gc/stacks.h"
#include "meta/persist.h"
#include "mutator/roots.h"
#include "os/os.h"
#include "span/mark_bits.h"
#include "span/slots.h"

enum { JOB_BYTES = 64 * 1024, FIRST_CAPACITY = 1024 };

struct job {
  struct os_range range;
  bool is_stack;
};

static struct {
  struct job *jobs;
  size_t count, capacity, bytes;
  size_t next;     /* atomic; the job to be taken next */
  bool is_partial; /* there was no memory for all */
} set;

static bool grow(void) {
  size_t capacity = max_size(set.capacity * 2, FIRST_CAPACITY);
  struct job *jobs = os_map(capacity * sizeof *jobs);
  if (jobs == NULL) return false;
  if (set.count != 0) memcpy(jobs, set.jobs, set.count * sizeof *jobs);
  if (set.jobs != NULL) os_unmap(set.jobs, set.capacity * sizeof *jobs);
  persist_charge(PERSIST_MARK, (ptrdiff_t)((capacity - set.capacity) * sizeof *jobs));
  set.jobs = jobs;
  set.capacity = capacity;
  return true;
}

static void add_jobs(struct os_range range, bool is_stack) {
  set.bytes += range.end - range.start;
  while (range.start < range.end) {
    if (set.count == set.capacity && !grow()) {
      set.is_partial = true;
      return;
    }
    uintptr_t end = min_size(range.end, range.start + JOB_BYTES);
    set.jobs[set.count++] = (struct job){.range = {range.start, end}, .is_stack = is_stack};
    range.start = end;
  }
}

/* ---- which they are ---- */

/* Passes on ranges of one origin. */
struct visit {
  rootset_visit_fn *visit;
  void *argument;
  struct root root; /* but for its range */
};

static void pass_on(void *argument, struct os_range range) {
  struct visit *visit = argument;
  visit->root.range = range;
  visit->visit(visit->argument, &visit->root);
}

static void pass_on_word(struct visit *visit, const void *address) {
  uintptr_t word = (uintptr_t)address;
  pass_on(visit, (struct os_range){word, word + sizeof(void *)});
}

static void visit_thread(const struct mutator *mutator, rootset_visit_fn *visit, void *argument) {
  struct visit pass = {visit, argument, {.origin = ROOT_STACK, .number = mutator->thread_id}};
  mutator_visit_stack(mutator, pass_on, &pass);
  pass.root.origin = ROOT_THREAD;
  /* With room left it names the second half of a slot; without, the next slot, which is none of the cache's. */
  if ((uintptr_t)mutator->cache.tiny_next % GRANULE_BYTES != 0) pass_on_word(&pass, &mutator->cache.tiny_next);
  pass_on_word(&pass, &mutator->fiber);
}

static void visit_storage(const struct mutator *mutator, bool running, rootset_visit_fn *visit, void *argument) {
  struct visit pass = {visit, argument, {.origin = ROOT_STORAGE, .number = mutator->thread_id}};
  size_t tls_count;
  const struct os_tls_module *tls = roots_tls_modules(&tls_count);
  if (!mutator_visit_storage(mutator, tls, tls_count, running, pass_on, &pass)) roots_learn_anew();
}

static void visit_kinds(rootset_visit_fn *visit, void *argument) {
  struct visit pass = {visit, argument, {.origin = ROOT_KIND}};
  for (unsigned kind = 0; kind < atomic_load_acquire(&kind_count); kind++) {
    pass.root.number = kind;
    pass_on_word(&pass, &kind_table[kind].argument);
  }
}

typedef void modules_visit_fn(roots_visit_fn *visit, void *argument);

/* Only the root callback knows where its stack ends. */
static bool is_told(const struct mutator *mutator) {
  return mutator->is_base_told || mutator_is_on_unknown_stack(mutator);
}

static void visit_all(modules_visit_fn *visit_modules, bool told_too, rootset_visit_fn *visit, void *argument) {
  struct visit pass = {visit, argument, {.origin = ROOT_ADDED}};
  roots_visit_added(pass_on, &pass);
  pass.root.origin = ROOT_STATIC;
  visit_modules(pass_on, &pass);
  pass.root.origin = ROOT_STACK;
  stacks_visit_parked_stw(pass_on, &pass);
  for (struct link *link = mutator_list.first; link != NULL; link = link->next) {
    if (told_too || !is_told(mutator_from(link))) visit_thread(mutator_from(link), visit, argument);
    visit_storage(mutator_from(link), false, visit, argument);
  }
  visit_kinds(visit, argument);
}

void rootset_visit_stw(rootset_visit_fn *visit, void *argument) {
  visit_all(roots_visit_modules, true, visit, argument);
}

/* ---- marking from them ---- */

static void mark_root(void *tracer, const struct root *root) { mark_range(tracer, root->range, root_is_stack(root)); }

static void mark_objects_in(struct midden_tracer *tracer, const struct span *span) {
  FOR_EACH_BIT (object, alloc_side(), span->start, span_end(span)) mark_address(tracer, object);
}

/* A kind that is not seen to exist was made behind this walk, as the span was. */
static bool is_of_root_kind(const struct span *span) {
  unsigned kind = atomic_load_relaxed(&span->kind);
  return kind_exists(kind) && kind_table[kind].root;
}

/* All is marked where it is old, or was marked before a stop. */
static void mark_root_span(const struct span *span, void *tracer) {
  if (is_of_root_kind(span) && !slots_all_marked(span)) mark_objects_in(tracer, span);
}

/* ---- while the world is stopped ---- */

static void add_root(void *argument, const struct root *root) {
  (void)argument;
  add_jobs(root->range, root_is_stack(root));
}

bool rootset_collect_stw(bool written_only) {
  set.count = set.bytes = 0;
  set.is_partial = false;
  atomic_store_relaxed(&set.next, (size_t)0);
  visit_all(written_only ? roots_visit_modules_written : roots_visit_modules, false, add_root, NULL);
  return !set.is_partial;
}

size_t rootset_bytes(void) { return set.bytes; }

void rootset_mark_share(struct midden_tracer *tracer) {
  for (;;) {
    size_t next = atomic_add_relaxed(&set.next, (size_t)1);
    if (next >= set.count) return;
    mark_range(tracer, set.jobs[next].range, set.jobs[next].is_stack);
  }
}

void rootset_mark_told_stw(struct midden_tracer *tracer) {
  for (struct link *link = mutator_list.first; link != NULL; link = link->next) {
    if (is_told(mutator_from(link))) visit_thread(mutator_from(link), mark_root, tracer);
  }
}

static void mark_objects_of(struct midden_tracer *tracer, const struct list *list) {
  for (struct link *link = list->first; link != NULL; link = link->next)
    mark_objects_in(tracer, CONTAINER_OF(link, struct span, link));
}

void rootset_mark_root_objects_stw(struct midden_tracer *tracer) {
  for (unsigned kind = 0; kind < atomic_load_acquire(&kind_count); kind++) {
    if (!kind_table[kind].root || central_if_exists(kind, 0) == NULL) continue;
    for (unsigned size_class = 0; size_class < SIZE_CLASS_COUNT; size_class++) {
      const struct central *central = central_if_exists(kind, size_class);
      for (int side = 0; side < 2; side++) {
        mark_objects_of(tracer, &central->partial[side]);
        mark_objects_of(tracer, &central->full[side]);
      }
    }
  }
}

void rootset_mark_new_stw(struct midden_tracer *tracer) {
  for (size_t chunk = 0; chunk < arena_chunk_count(&heap_arena); chunk++) {
    if (heap_arena.chunks[chunk].new_roots) slots_visit_spans(chunk, mark_root_span, tracer);
  }
}

/* ---- while the world runs ---- */

void rootset_mark_thread(const struct mutator *mutator, bool storage, struct midden_tracer *tracer) {
  visit_thread(mutator, mark_root, tracer);
  if (storage) visit_storage(mutator, true, mark_root, tracer);
}

/* By the pages, since the central lists change.  A span that appears behind this walk, or of which its chunk does not tell yet,
 * holds objects only that are black, or of which new_roots tells. */
static void mark_root_spans(struct midden_tracer *tracer) {
  for (size_t chunk = 0; chunk < arena_chunk_count(&heap_arena); chunk++) {
    if (atomic_load_relaxed(&heap_arena.chunks[chunk].root_spans) != 0)
      slots_visit_spans(chunk, mark_root_span, tracer);
  }
}

void rootset_forget_new(void) {
  for (size_t chunk = 0; chunk < arena_chunk_count(&heap_arena); chunk++)
    atomic_store_relaxed(&heap_arena.chunks[chunk].new_roots, false);
}

bool rootset_mark_running(struct mutator *self, struct midden_tracer *tracer) {
  bool all = roots_visit_running(self, mark_static, tracer);
  stacks_visit_parked(mark_stack, tracer);
  visit_kinds(mark_root, tracer);
  mark_root_spans(tracer);
  return all;
}
