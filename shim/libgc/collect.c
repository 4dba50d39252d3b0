/* Collections: asked for by the program, and what the program hears of them.
 *
 * collect_on_event is called by midden at each step of every collection, in the collecting thread, never by two at
 * once. It brings midden up to the variables that the program wrote, counts GC_gc_no, keeps the figures that libgc
 * gives "since the last collection", and passes the step on to the program. */
#include "shim.h"

GC_word GC_gc_no;

static GC_on_collection_event_proc collect_on_program_event;
static GC_start_callback_proc collect_start_callback;

/* ---- events ---- */

static bool collect_was_stopped; /* the program's stop function ended this collection; by the collecting thread */

static struct collect_snapshot collect_snapshot; /* written by collections, read at any time: figures only */
static uint64_t collect_live_before;             /* heap_live when the running collection started */
static size_t collect_told_heap;                 /* size that GC_on_heap_resize heard last; atomic */

struct collect_snapshot collect_last(void) {
  return collect_snapshot;
}

void collect_tell_resize(void) {
  struct midden_stats stats = {.size = sizeof(stats)};
  midden_stats(&stats);
  size_t before = __atomic_exchange_n(&collect_told_heap, stats.heap_system, __ATOMIC_RELAXED);
  GC_on_heap_resize_proc function = GC_on_heap_resize;
  if (function && stats.heap_system > before) function(stats.heap_system);
}

static void collect_started(void) {
  struct midden_stats stats = {.size = sizeof(stats)};
  config_follow_variables();
  collect_was_stopped = false;
  midden_stats(&stats);
  collect_live_before = stats.heap_live;
  toggleref_update();
  GC_start_callback_proc callback = collect_start_callback;
  if (callback) callback();
}

static void collect_ended(void) {
  struct midden_stats stats = {.size = sizeof(stats)};
  midden_stats(&stats);
  collect_snapshot.allocated = stats.allocated;
  collect_snapshot.freed_explicitly = stats.freed_explicitly;
  collect_snapshot.reclaimed += collect_snapshot.reclaimed_last;
  bool shrank = stats.heap_marked < collect_live_before;
  collect_snapshot.reclaimed_last = shrank ? collect_live_before - stats.heap_marked : 0;
  collect_tell_resize();
  if (stats.finalizer_cycle)
    report_warning("The finalizer of %p never runs: the object refers to itself by way of others\n",
                   ~(GC_word)stats.finalizer_cycle);
}

static GC_EventType collect_event_type(enum midden_event event) {
  switch (event) {
    case MIDDEN_EVENT_START:
      return GC_EVENT_START;
    case MIDDEN_EVENT_STOPPING:
      return GC_EVENT_PRE_STOP_WORLD;
    case MIDDEN_EVENT_STOPPED:
      return GC_EVENT_POST_STOP_WORLD;
    case MIDDEN_EVENT_MARK_START:
      return GC_EVENT_MARK_START;
    case MIDDEN_EVENT_MARK_END:
      return GC_EVENT_MARK_END;
    case MIDDEN_EVENT_RESUMING:
      return GC_EVENT_PRE_START_WORLD;
    case MIDDEN_EVENT_RESUMED:
      return GC_EVENT_POST_START_WORLD;
    case MIDDEN_EVENT_SWEEP_START:
      return GC_EVENT_RECLAIM_START;
    case MIDDEN_EVENT_SWEEP_END:
      return GC_EVENT_RECLAIM_END;
    case MIDDEN_EVENT_END:
      break;
  }
  return GC_EVENT_END;
}

static void collect_tell_of_thread(uintptr_t thread, void *type) {
  GC_on_thread_event_proc function = GC_get_on_thread_event();
  if (function) function(*(GC_EventType *)type, (void *)thread);
}

/* As libgc does: between the event before the world is stopped, or goes on, and the one after that. */
static void collect_tell_of_threads(GC_EventType type) {
  if (GC_get_on_thread_event()) midden_thread_visit_stopped(collect_tell_of_thread, &type);
}

void collect_on_event(enum midden_event event, void *unused) {
  (void)unused;
  if (event == MIDDEN_EVENT_STOPPED) collect_tell_of_threads(GC_EVENT_THREAD_SUSPENDED);
  if (event == MIDDEN_EVENT_START) collect_started();
  if (event == MIDDEN_EVENT_STOPPED) mark_note_stop(true);
  if (event == MIDDEN_EVENT_MARK_END && !collect_was_stopped) GC_gc_no++; /* no sooner: it may come to nothing */
  if (event == MIDDEN_EVENT_RESUMED) mark_note_stop(false);
  GC_on_collection_event_proc function = collect_on_program_event;
  if (function) function(collect_event_type(event));
  if (event == MIDDEN_EVENT_RESUMING) collect_tell_of_threads(GC_EVENT_THREAD_UNSUSPENDED);
  if (event == MIDDEN_EVENT_END) collect_ended();
}

void GC_set_on_collection_event(GC_on_collection_event_proc function) { collect_on_program_event = function; }
GC_on_collection_event_proc GC_get_on_collection_event(void) { return collect_on_program_event; }

void GC_set_start_callback(GC_start_callback_proc function) { collect_start_callback = function; }
GC_start_callback_proc GC_get_start_callback(void) { return collect_start_callback; }

GC_word GC_get_gc_no(void) { return GC_gc_no; }

/* ---- collections on request ---- */

static int collect_never_stop(void) { return 0; }

static GC_stop_func collect_stop = collect_never_stop;

static bool collect_ask_stop(void *function) {
  collect_was_stopped = (*(GC_stop_func *)function)() != 0;
  return collect_was_stopped;
}

int GC_try_to_collect(GC_stop_func stop) {
  config_follow_variables();
  if (GC_dont_gc) return 0;
  if (stop == collect_never_stop) {
    midden_collect();
    return 1;
  }
  return midden_collect_unless(collect_ask_stop, &stop) ? 1 : 0;
}

void GC_gcollect(void) {
  GC_try_to_collect(collect_stop);
  if (GC_get_force_unmap_on_gcollect()) midden_release_memory();
}

void GC_gcollect_and_unmap(void) {
  GC_try_to_collect(collect_never_stop);
  midden_release_memory();
}

void GC_set_stop_func(GC_stop_func stop) { collect_stop = stop; }
GC_stop_func GC_get_stop_func(void) { return collect_stop; }

int GC_collect_a_little(void) {
  struct midden_stats stats = {.size = sizeof(stats)};
  midden_stats(&stats);
  if (stats.heap_live >= stats.heap_goal) GC_try_to_collect(collect_never_stop);
  return 0;
}

/* ---- incremental collection: a mode of midden, in use whether or not it is asked for ---- */

static bool incremental_asked; /* atomic */

void GC_enable_incremental(void) {
  GC_init();
  __atomic_store_n(&incremental_asked, true, __ATOMIC_RELAXED);
}

/* Programs ask in order to store pointers by GC_PTR_STORE_AND_DIRTY, or to be wary of protected pages: neither is called for. */
int GC_is_incremental_mode(void) {
  struct midden_stats stats = {.size = sizeof(stats)};
  if (!__atomic_load_n(&incremental_asked, __ATOMIC_RELAXED)) return 0;
  midden_stats(&stats);
  return stats.mode != MIDDEN_MODE_STW;
}

int GC_incremental_protection_needs(void) { return GC_PROTECTS_NONE; }

/* libgc does nothing either unless the mode is on. */
void GC_start_incremental_collection(void) {}

/* ---- heap size ---- */

int GC_expand_hp(size_t bytes) {
  bool done = midden_reserve(bytes) == 0;
  collect_tell_resize();
  return done;
}

void GC_set_max_heap_size(GC_word bytes) { midden_set_max_heap(bytes); }
