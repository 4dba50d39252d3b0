/* Roots and kinds as the program defines them, and what trace functions may call. */
#include "mutator/roots.h"

#include <errno.h>

#include "api/start.h"
#include "gc/collector.h"
#include "gc/concurrent.h"
#include "gc/mark.h"
#include "midden/midden.h"

static bool is_range(const void *start, const void *end) { return (uintptr_t)start <= (uintptr_t)end; }

static struct os_range range_of(const void *start, const void *end) {
  return (struct os_range){(uintptr_t)start, (uintptr_t)end};
}

int midden_root_add(void *start, void *end) {
  if (!is_range(start, end)) return -EINVAL;
  struct mutator *self = start_self();
  mutator_enter(self);
  int error = roots_add(range_of(start, end));
  mutator_leave(self);
  return error;
}

/* In a critical section: no thread is scanned between the look at what goes and its going.  Where it is looked at, a piece of
 * it goes at a time, as handshakes wait.  False where all is gone. */
static bool take_out_some(struct mutator *self, struct os_range range) {
  struct os_range piece;
  if (concurrent_marks_added() && roots_first_added_in(range, &piece)) {
    concurrent_mark_added(self, piece);
    if (roots_remove(piece) == 0) return true;
    concurrent_mark_added(self, range); /* there is no memory for the rest of a range */
  }
  roots_remove(range);
  return false;
}

static void take_out(struct os_range range) {
  struct mutator *self = start_self();
  for (bool has_more = true; has_more;) {
    mutator_enter(self);
    has_more = take_out_some(self, range);
    mutator_leave(self);
  }
}

void midden_root_remove(void *start, void *end) {
  if (is_range(start, end)) take_out(range_of(start, end));
}

void midden_root_clear(void) { take_out((struct os_range){0, UINTPTR_MAX}); }

/* In barrier mode static data ceases to be a root while no cycle runs: what it holds may have been loaded by a thread that was
 * scanned. */
static void *beside_no_cycle(void *(*function)(void *argument), void *argument) {
  start_ensure();
  bool with_barrier = collector.concurrent && !collector.dirty;
  return with_barrier ? midden_locked_call(function, argument) : function(argument);
}

static void *exclude(void *argument) {
  struct mutator *self = mutator_self();
  mutator_enter(self);
  int error = roots_exclude(*(const struct os_range *)argument);
  mutator_leave(self);
  return (void *)(intptr_t)error;
}

int midden_root_exclude(void *start, void *end) {
  if (!is_range(start, end)) return -EINVAL;
  struct os_range range = range_of(start, end);
  return (int)(intptr_t)beside_no_cycle(exclude, &range);
}

static void *scan_modules(void *scan) {
  roots_scan_modules(*(const bool *)scan);
  return NULL;
}

void midden_root_modules(bool scan) { beside_no_cycle(scan_modules, &scan); }

static void *set_filter(void *filter) {
  roots_set_module_filter(*(midden_module_filter_fn **)filter);
  return NULL;
}

void midden_set_module_filter(midden_module_filter_fn *filter) { beside_no_cycle(set_filter, &filter); }

struct root_callback {
  midden_root_fn *function;
  void *argument;
};

static void *set_root_callback(void *argument) {
  const struct root_callback *callback = argument;
  struct mutator *self = mutator_self();
  collector_lock_hooks(self);
  collector_hooks.roots_argument = callback->argument;
  atomic_store_release(&collector_hooks.roots, callback->function);
  collector_unlock_hooks(self);
  return NULL;
}

/* As with static data: what the callback before would have reported is a root no more. */
void midden_set_root_callback(midden_root_fn *callback, void *argument) {
  beside_no_cycle(set_root_callback, &(struct root_callback){callback, argument});
}

void midden_trace(struct midden_tracer *tracer, const void *reference) { mark_address(tracer, (uintptr_t)reference); }

void midden_trace_range(struct midden_tracer *tracer, const void *start, const void *end) {
  mark_range(tracer, (struct os_range){(uintptr_t)start, (uintptr_t)end}, false);
}

/* When the sides have traded roles there are no marks: what lives has its allocation bit. */
bool midden_is_marked(const void *object) {
  return collector_phase() == COLLECTOR_OFF ? midden_base(object) != NULL : mark_is_marked(object);
}

void midden_mark(const void *object) { mark_by_hand(object); }

static enum scan_mode scan_mode_of(const struct midden_kind_options *options) {
  if (options->trace != NULL) return SCAN_TRACE;
  return options->no_pointers ? SCAN_NONE : SCAN_CONSERVATIVE;
}

static void *add_kind(void *argument) { return (void *)(intptr_t)kind_add(argument); }

int midden_kind_new(const struct midden_kind_options *options) {
  if (options == NULL || options->size < sizeof *options || (options->trace != NULL && options->no_pointers))
    return -EINVAL;
  struct kind kind = {
      .name = options->name != NULL ? options->name : "unnamed",
      .trace = options->trace,
      .argument = options->argument,
      .scan = scan_mode_of(options),
      .zeroed = !options->not_zeroed || options->trace != NULL, /* it may be called before the program writes */
      .root = options->root,
      .trace_beside = options->trace != NULL && options->trace_beside};
  return (int)(intptr_t)midden_locked_call(add_kind, &kind);
}
