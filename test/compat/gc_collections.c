/* Collections: asked for, stopped, disabled; what the program hears of them; variables that are read as they start. */
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <unistd.h>

#include "gc_check.h"

#include "gc/gc_mark.h"

static NOINLINE void watch_dropped(void) {
  for (int i = 0; i < COUNT; i++) check_watch(i, GC_malloc(40));
}

/* ---- events ---- */

enum { LOG_MAX = 64 };
static GC_EventType event_log[LOG_MAX];
static int events;

static void log_event(GC_EventType event) {
  if (events < LOG_MAX) event_log[events++] = event;
}

/* The place of the only event of that type in the log. */
static int place(GC_EventType event) {
  int found = -1;
  for (int i = 0; i < events; i++) {
    if (event_log[i] != event) continue;
    CHECK_EQUAL(found, -1);
    found = i;
  }
  CHECK(found >= 0);
  return found;
}

static void test_events(void) {
  static const GC_EventType order[] = {GC_EVENT_START,
                                       GC_EVENT_PRE_STOP_WORLD,
                                       GC_EVENT_POST_STOP_WORLD,
                                       GC_EVENT_MARK_START,
                                       GC_EVENT_MARK_END,
                                       GC_EVENT_PRE_START_WORLD,
                                       GC_EVENT_POST_START_WORLD,
                                       GC_EVENT_RECLAIM_START,
                                       GC_EVENT_RECLAIM_END,
                                       GC_EVENT_END};
  CHECK(GC_get_on_collection_event() == NULL);
  GC_set_on_collection_event(log_event);
  CHECK(GC_get_on_collection_event() == log_event);
  GC_gcollect();
  GC_set_on_collection_event(NULL);
  for (size_t i = 1; i < sizeof(order) / sizeof(order[0]); i++) CHECK(place(order[i - 1]) < place(order[i]));
  CHECK_EQUAL(place(GC_EVENT_START), 0);
  CHECK_EQUAL(place(GC_EVENT_END), events - 1);
}

/* ---- marks ---- */

/* In disguise; the odd ones are held. */
static GC_word asked_of[COUNT];
static void **held_by_event;
static int marked_held[2], marked_dropped[2]; /* when marking ends, and before the world runs again */

static int count_marked(bool held) {
  int count = 0;
  for (int i = held; i < COUNT; i += 2) count += GC_is_marked(GC_REVEAL_POINTER(asked_of[i])) != 0;
  return count;
}

static void ask_at_event(GC_EventType event) {
  if (event != GC_EVENT_MARK_END && event != GC_EVENT_PRE_START_WORLD) return;
  int last = event == GC_EVENT_PRE_START_WORLD;
  marked_held[last] = count_marked(true);
  marked_dropped[last] = count_marked(false);
}

static NOINLINE void make_asked(void) {
  for (int i = 0; i < COUNT; i++) {
    void *object = GC_malloc(i % 2 ? 72 : 40);
    asked_of[i] = GC_HIDE_POINTER(object);
    if (i % 2) held_by_event[i] = object;
  }
}

/* What lives is marked from the end of the marking to the next collection, what died is not. */
static void test_is_marked(void) {
  held_by_event = GC_malloc(COUNT * sizeof(void *));
  make_asked();
  check_clear_stack();
  GC_set_on_collection_event(ask_at_event);
  GC_gcollect();
  GC_set_on_collection_event(NULL);
  for (int i = 0; i < 2; i++) {
    CHECK_EQUAL(marked_held[i], COUNT / 2);
    CHECK(marked_dropped[i] < (COUNT - NEARLY_ALL) / 2);
  }
  for (int i = 0; i < 20000; i++) GC_malloc(72); /* all is swept that has objects of the size */
  CHECK_EQUAL(count_marked(true), COUNT / 2);
}

static int started;
static GC_word number_in_callback;

static void on_start(void) {
  started++;
  number_in_callback = GC_gc_no;
}

static void test_start_callback(void) {
  GC_start_callback_proc before = GC_get_start_callback();
  GC_word number = GC_get_gc_no();
  GC_set_start_callback(on_start);
  CHECK(GC_get_start_callback() == on_start);
  GC_gcollect();
  CHECK_EQUAL(started, 1);
  CHECK_EQUAL(GC_get_gc_no(), number + 1);
  CHECK(GC_gc_no == GC_get_gc_no());
  CHECK(number_in_callback == number || number_in_callback == number + 1);
  GC_set_start_callback(before);
  GC_gcollect();
  CHECK_EQUAL(started, 1);
}

/* ---- stopping a collection ---- */

static int asked;

static int stop_never(void) {
  asked++;
  return 0;
}

static int stop_at_once(void) {
  asked++;
  return 1;
}

static void test_try_to_collect(void) {
  asked = 0;
  GC_word number = GC_get_gc_no();
  CHECK_EQUAL(GC_try_to_collect(stop_at_once), 0);
  CHECK(asked > 0);
  CHECK_EQUAL(GC_get_gc_no(), number); /* only those that were done count */
  void **held = GC_malloc(COUNT * sizeof(void *));
  for (int i = 0; i < COUNT; i++) held[i] = GC_strdup("held");
  asked = 0;
  CHECK_EQUAL(GC_try_to_collect(stop_never), 1);
  CHECK(asked > 0);
  for (int i = 0; i < COUNT; i++) CHECK(strcmp(held[i], "held") == 0);
  GC_stop_func before = GC_get_stop_func();
  watch_dropped();
  GC_set_stop_func(stop_at_once);
  CHECK(GC_get_stop_func() == stop_at_once);
  number = GC_get_gc_no();
  check_collect();
  CHECK_EQUAL(check_count_dead(), 0);
  CHECK_EQUAL(GC_get_gc_no(), number);
  GC_set_stop_func(before);
  watch_dropped();
  check_collect();
  CHECK(check_count_dead() > NEARLY_ALL);
}

/* ---- disabling ---- */

static void test_disable(void) {
  CHECK(!GC_is_disabled());
  GC_disable();
  GC_disable();
  CHECK(GC_is_disabled());
  GC_enable();
  CHECK(GC_is_disabled());
  CHECK_EQUAL(GC_dont_gc, 1);
  GC_word number = GC_get_gc_no();
  watch_dropped();
  check_collect();
  CHECK_EQUAL(GC_try_to_collect(stop_never), 0);
  for (int i = 0; i < 200000; i++) GC_malloc(100);
  CHECK_EQUAL(GC_get_gc_no(), number);
  CHECK_EQUAL(check_count_dead(), 0);
  GC_enable();
  CHECK(!GC_is_disabled());
  GC_gcollect();
  CHECK_EQUAL(GC_get_gc_no(), number + 1);
}

static int over, off, heard; /* atomic */

static void *churn(void *unused) {
  while (!__atomic_load_n(&over, __ATOMIC_RELAXED)) GC_malloc(1000);
  return unused;
}

static void hear(GC_EventType event) {
  (void)event;
  if (__atomic_load_n(&off, __ATOMIC_RELAXED)) __atomic_fetch_add(&heard, 1, __ATOMIC_RELAXED);
}

/* Takes a while to mark. */
static NOINLINE void **make_list(void) {
  void **list = NULL;
  for (int i = 0; i < 300000; i++) {
    void **node = GC_malloc(32);
    node[0] = list;
    list = node;
  }
  return list;
}

/* When it returns none is under way, though others allocate. */
static void test_disable_waits(void) {
  pthread_t threads[2];
  void **list = make_list();
  GC_set_on_collection_event(hear);
  for (int i = 0; i < 2; i++) CHECK_EQUAL(GC_pthread_create(&threads[i], NULL, churn, NULL), 0);
  for (int i = 0; i < 100; i++) {
    GC_disable();
    __atomic_store_n(&off, 1, __ATOMIC_RELAXED);
    usleep(500);
    __atomic_store_n(&off, 0, __ATOMIC_RELAXED);
    GC_enable();
    usleep(2000);
  }
  __atomic_store_n(&over, 1, __ATOMIC_RELAXED);
  for (int i = 0; i < 2; i++) CHECK_EQUAL(GC_pthread_join(threads[i], NULL), 0);
  GC_set_on_collection_event(NULL);
  CHECK_EQUAL(heard, 0);
  GC_reachable_here(list);
}

/* The variable written by the program. */
static void test_dont_gc(void) {
  GC_word number = GC_get_gc_no();
  GC_dont_gc = 1;
  GC_gcollect();
  CHECK(GC_is_disabled());
  CHECK_EQUAL(GC_get_gc_no(), number);
  GC_dont_gc = 0;
  GC_gcollect();
  CHECK_EQUAL(GC_get_gc_no(), number + 1);
}

/* ---- figures about collections ---- */

static void test_since_collection(void) {
  GC_gcollect();
  size_t before = GC_get_bytes_since_gc();
  CHECK(before < 100000);
  for (int i = 0; i < 100; i++) GC_malloc_atomic(1000);
  CHECK(GC_get_bytes_since_gc() >= before + 90000);
  size_t freed = GC_get_expl_freed_bytes_since_gc();
  for (int i = 0; i < 100; i++) GC_free(GC_malloc_atomic(1000));
  CHECK(GC_get_expl_freed_bytes_since_gc() >= freed + 90000);
  GC_gcollect();
  CHECK(GC_get_bytes_since_gc() < 90000);
  CHECK(GC_get_expl_freed_bytes_since_gc() < 90000);
}

/* What is freed counts at once, beside a collection as well. */
static void test_freed_counts(void) {
  int unseen = 0;
  void **held = NULL;
  for (int i = 0; i < 300000; i++) {
    void **object = GC_malloc(100), *freed = GC_malloc(100);
    *object = i % 10000 ? held : NULL;
    held = object;
    size_t before = GC_get_expl_freed_bytes_since_gc();
    GC_free(freed);
    unseen += GC_get_expl_freed_bytes_since_gc() == before;
  }
  CHECK_EQUAL(unseen, 0);
}

static void test_pressure(void) {
  GC_word number = GC_get_gc_no();
  for (int i = 0; i < 500000; i++) GC_malloc(200);
  CHECK(GC_get_gc_no() > number);
  CHECK(GC_get_heap_size() < 64 << 20); /* of 100 MB allocated */
  CHECK_EQUAL(GC_collect_a_little(), 0);
}

static GC_word resized_to;

static void on_resize(GC_word bytes) { resized_to = bytes; }

/* With what was given back: it may have been before, or be meanwhile. */
static size_t whole_heap(void) { return GC_get_heap_size() + GC_get_unmapped_bytes(); }

static void test_expand(void) {
  size_t before = whole_heap();
  GC_set_on_heap_resize(on_resize);
  CHECK(GC_get_on_heap_resize() == on_resize);
  /* What is free already counts, so that it may have to be more than that. */
  for (size_t bytes = 32 << 20; bytes <= 1 << 30 && resized_to == 0; bytes *= 2) CHECK_EQUAL(GC_expand_hp(bytes), 1);
  CHECK(whole_heap() > before);
  CHECK(resized_to > before && resized_to >= 32 << 20);
  CHECK_EQUAL(GC_expand_hp(SIZE_MAX / 2), 0);
  GC_set_on_heap_resize(NULL);
}

/* What is given back is part of the heap no more. */
static void test_unmap(void) {
  for (int i = 0; i < 64; i++) memset(GC_malloc_atomic(1 << 20), 1, 1 << 20);
  size_t before = GC_get_heap_size();
  GC_gcollect_and_unmap();
  CHECK(GC_get_unmapped_bytes() > 0);
  CHECK(GC_get_heap_size() < before);
  CHECK(GC_malloc(1 << 20) != NULL);
}

static void visit(void *object, size_t bytes, void *argument) {
  size_t *all = argument;
  CHECK(object != NULL && bytes > 0);
  all[0]++;
  all[1] += bytes;
}

static void *enumerate(void *argument) {
  GC_enumerate_reachable_objects_inner(visit, argument);
  return NULL;
}

static void test_enumerate(void) {
  void **held = GC_malloc(COUNT * sizeof(void *));
  for (int i = 0; i < COUNT; i++) held[i] = GC_malloc(1000);
  size_t all[2] = {0, 0};
  GC_gcollect();
  GC_call_with_alloc_lock(enumerate, all);
  CHECK(all[0] >= COUNT && all[1] >= COUNT * 1000);
  GC_reachable_here(held);
}

int main(void) {
  GC_set_warn_proc(GC_ignore_warn_proc);
  GC_INIT();
  test_events();
  test_is_marked();
  test_start_callback();
  test_try_to_collect();
  test_disable();
  test_dont_gc();
  test_since_collection();
  test_pressure();
  test_expand();
  test_unmap();
  test_enumerate();
  test_disable_waits();
  test_freed_counts();
  return 0;
}
