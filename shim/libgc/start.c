/* How the drop-in starts.
 *
 * A constructor does it: programs need not call GC_init, and GC_malloc must not ask whether anyone did.  By then the
 * loader has run the constructors of nothing that depends on this library; a library that does not, but reaches
 * GC_malloc through a program's operator new, may come first.  midden then started itself with its defaults, so all
 * that matters is set by calls that work later too; only options of no consequence before the first collection are
 * given to midden_init.
 *
 * GC_init takes over what the program wrote to the variables since.  A program that writes them and never calls GC_init
 * is followed when the next collection starts. */
#include "shim.h"

/* Read and written without order: any thread's GC_init does for all. */
static int start_init_called; /* 1 after GC_init, -1 after GC_deinit */

static void start_markers(void) {
  unsigned markers = midden_set_markers(1);
  midden_set_markers(markers);
  GC_parallel = markers > 0 ? (int)markers - 1 : 0;
}

static void start_bounds(void) {
  uintptr_t start, end;
  midden_heap_bounds(&start, &end);
  GC_least_plausible_heap_addr = (void *)start;
  GC_greatest_plausible_heap_addr = (void *)end;
}

__attribute__((constructor(101))) static void start(void) {
  struct midden_options options = {.size = sizeof(options), .mode = MIDDEN_MODE_DIRTY};
  environment_read(&options);
  if (midden_init(&options) < 0) {
    if (options.max_heap_bytes) midden_set_max_heap(options.max_heap_bytes);
    if (options.initial_heap_bytes) midden_reserve(options.initial_heap_bytes);
    if (options.markers) midden_set_markers(options.markers);
  }
  start_bounds();
  start_markers();
  kinds_init();
  threads_init();
  if (!GC_stackbottom && threads_in_main()) GC_stackbottom = midden_thread_stack_base();
  midden_set_root_callback(mark_roots, NULL);
  midden_set_event_callback(collect_on_event, NULL);
  midden_set_finalizer_notify(finalize_notify, NULL);
  midden_set_out_of_memory(report_out_of_memory);
  config_follow_variables();
}

void GC_init(void) {
  if (!GC_is_init_called()) environment_overrule();
  __atomic_store_n(&start_init_called, 1, __ATOMIC_RELAXED);
  config_follow_variables();
}

int GC_is_init_called(void) {
  struct midden_stats stats = {.size = sizeof(stats)};
  int called = __atomic_load_n(&start_init_called, __ATOMIC_RELAXED);
  if (called != 0) return called > 0;
  midden_stats(&stats);
  return stats.allocated > 0;
}

/* libgc forgets that it was started, so that a program may unload it.  The heap stays. */
void GC_deinit(void) { __atomic_store_n(&start_init_called, -1, __ATOMIC_RELAXED); }

unsigned GC_get_version(void) { return GC_VERSION_MAJOR << 16 | GC_VERSION_MINOR << 8 | GC_VERSION_MICRO; }
