/* Collections: asked for, refused, stopped half way, told of. */
#include "differential.h"

#include "gc/gc_mark.h"

/* ---- disabled ---- */

static int never_stop(void) { return 0; }
static int always_stop(void) { return 1; }

static int stop_calls;

static int count_calls(void) {
  stop_calls++;
  return 0;
}

static void disable(void) {
  size_t depth = 1 + any_below(3);
  for (size_t i = 0; i < depth; i++) GC_disable();
  REQUIRE(GC_is_disabled() && GC_dont_gc == (int)depth);
  GC_word number = GC_get_gc_no();
  GC_gcollect();
  GC_gcollect_and_unmap();
  say("disabled %zu times: collects %d, has collected %d, a little %d", depth, GC_try_to_collect(never_stop),
      GC_get_gc_no() != number, GC_collect_a_little());
  for (size_t i = 0; i < 20000; i++) GC_malloc(200);
  REQUIRE(GC_get_gc_no() == number && GC_gc_no == number);
  for (size_t i = 0; i < depth; i++) {
    REQUIRE(GC_is_disabled());
    GC_enable();
  }
  REQUIRE(!GC_is_disabled() && GC_dont_gc == 0);
}

static void only_on_request(void) {
  collect_only_asked(true);
  GC_word number = GC_get_gc_no();
  for (size_t i = 0; i < 20000; i++) GC_malloc(200);
  bool has_collected = GC_get_gc_no() != number;
  GC_gcollect();
  say("not by itself: %d, on request %d", has_collected, GC_get_gc_no() > number);
  collect_only_asked(false);
}

/* ---- stopped half way ---- */

static void stop_half_way(void) {
  collect_only_asked(true);
  GC_word number = GC_get_gc_no();
  int result = GC_try_to_collect(always_stop);
  say("stopped: %d, counts %d", result, GC_get_gc_no() != number);
  number = GC_get_gc_no();
  stop_calls = 0;
  result = GC_try_to_collect(count_calls);
  say("not stopped: %d, counts %d, asked %d", result, GC_get_gc_no() > number, stop_calls > 0);
  GC_stop_func before = GC_get_stop_func();
  GC_set_stop_func(always_stop);
  number = GC_get_gc_no();
  GC_gcollect();
  say("default stopped: counts %d", GC_get_gc_no() != number);
  GC_gcollect_and_unmap();
  say("and unmap: counts %d", GC_get_gc_no() != number);
  GC_set_stop_func(before);
  collect_only_asked(false);
}

/* ---- told of ---- */

enum { EVENTS = GC_EVENT_THREAD_UNSUSPENDED + 1 };

static int events[EVENTS], starts, out_of_order, inside;

/* Each collection starts and ends; what belongs to it lies between. */
static void on_event(GC_EventType event) {
  events[event]++;
  if (event == GC_EVENT_START) {
    out_of_order += inside;
    inside = 1;
  } else if (event == GC_EVENT_END) {
    out_of_order += !inside;
    inside = 0;
  }
}

static void on_start(void) { starts++; }

static void follow_events(void) {
  for (int i = 0; i < EVENTS; i++) events[i] = 0;
  starts = out_of_order = inside = 0;
  collect_only_asked(true);
  GC_word number = GC_get_gc_no();
  GC_set_on_collection_event(on_event);
  GC_set_start_callback(on_start);
  GC_gcollect();
  GC_set_on_collection_event(NULL);
  GC_set_start_callback(NULL);
  collect_only_asked(false);
  int done = (int)(GC_get_gc_no() - number);
  say("events: collected %d, started %d, ended %d, callback %d, in order %d", done > 0, events[GC_EVENT_START] == done,
      events[GC_EVENT_END] == done, starts == done, out_of_order == 0);
  say("events: marks %d %d, stops %d %d %d %d, reclaims %d %d", events[GC_EVENT_MARK_START] == done,
      events[GC_EVENT_MARK_END] == done, events[GC_EVENT_PRE_STOP_WORLD] > 0,
      events[GC_EVENT_POST_STOP_WORLD] == events[GC_EVENT_PRE_STOP_WORLD],
      events[GC_EVENT_PRE_START_WORLD] == events[GC_EVENT_PRE_STOP_WORLD],
      events[GC_EVENT_POST_START_WORLD] == events[GC_EVENT_PRE_STOP_WORLD], events[GC_EVENT_RECLAIM_START] == done,
      events[GC_EVENT_RECLAIM_END] == done);
}

/* ---- the heap's size ---- */

/* Whether the heap is larger then is left open: it may have had the room already. */
static void expand(void) { say("expanded: %d, by too much: %d", GC_expand_hp(8 << 20), GC_expand_hp((size_t)1 << 60)); }

static void limit(void) {
  GC_gcollect_and_unmap();
  GC_set_max_heap_size(GC_get_heap_size() + GC_get_unmapped_bytes() + ((size_t)1 << 20));
  say("beyond the limit: %d", GC_malloc_atomic((size_t)1 << 34) == NULL);
  GC_set_max_heap_size(0);
  say("without: %d", GC_malloc_atomic((size_t)32 << 20) != NULL);
}

/* ---- steps ---- */

static void plain(void) {
  GC_word number = GC_get_gc_no();
  GC_gcollect();
  say("collect: counts %d", GC_get_gc_no() > number && GC_gc_no == GC_get_gc_no());
  for (int i = 0; i < 1000 && GC_collect_a_little(); i++) continue;
  say("a little: %d", GC_collect_a_little());
}

void collections_step(void) {
  static void (*const kinds[])(void) = {plain,  plain,         plain,         disable, only_on_request,
                                        expand, stop_half_way, follow_events, limit};
  kinds[any_below(sizeof kinds / sizeof kinds[0])]();
  objects_check();
}
