/* Roots and kinds as the program defines them, and what trace functions may call. */
#include "mutator/roots.h"

#include <errno.h>

#include "api/start.h"
#include "gc/collector.h"
#include "gc/mark.h"
#include "midden/midden.h"
#include "span/mark_bits.h"
#include "span/object.h"

typedef int range_function(struct os_range range);

static int with_range(range_function *function, void *start, void *end) {
  if ((uintptr_t)end < (uintptr_t)start) return -EINVAL;
  struct mutator *self = start_self();
  mutator_enter(self);
  int error = function((struct os_range){(uintptr_t)start, (uintptr_t)end});
  mutator_leave(self);
  return error;
}

int midden_root_add(void *start, void *end) { return with_range(roots_add, start, end); }
void midden_root_remove(void *start, void *end) { with_range(roots_remove, start, end); }
int midden_root_exclude(void *start, void *end) { return with_range(roots_exclude, start, end); }

void midden_root_clear(void) {
  struct mutator *self = start_self();
  mutator_enter(self);
  roots_clear();
  mutator_leave(self);
}

void midden_root_modules(bool scan) {
  start_ensure();
  roots_scan_modules(scan);
}

void midden_set_module_filter(midden_module_filter_fn *filter) {
  start_ensure();
  roots_set_module_filter(filter);
}

void midden_set_root_callback(midden_root_fn *callback, void *argument) {
  start_ensure();
  collector_hooks.roots_argument = argument;
  atomic_store_release(&collector_hooks.roots, callback);
}

void midden_trace(struct midden_tracer *tracer, const void *reference) { mark_address(tracer, (uintptr_t)reference); }

void midden_trace_range(struct midden_tracer *tracer, const void *start, const void *end) {
  mark_range(tracer, (struct os_range){(uintptr_t)start, (uintptr_t)end}, false);
}

bool midden_is_marked(const void *object) { return mark_is_marked(object); }

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
      .root = options->root};
  return (int)(intptr_t)midden_locked_call(add_kind, &kind);
}
