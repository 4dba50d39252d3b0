/* Finalizers: what registering answers for objects that live; and small graphs of objects with finalizers, links and arguments,
 * which are dropped, and of which is printed what each collection does to each node. */
#include <string.h>

#include "differential.h"

#include "gc/gc_disclaim.h"
#include "gc/javaxfc.h"

typedef void registrar(void *object, GC_finalization_proc function, void *argument, GC_finalization_proc *old_function,
                       void **old_argument);

static registrar *const registrars[] = {GC_register_finalizer, GC_register_finalizer_ignore_self,
                                        GC_register_finalizer_no_order, GC_register_finalizer_unreachable};
static registrar *const debug_registrars[] = {GC_debug_register_finalizer, GC_debug_register_finalizer_ignore_self,
                                              GC_debug_register_finalizer_no_order,
                                              GC_debug_register_finalizer_unreachable};
static const char form_letters[] = "oinu";

/* ---- objects that are held: finalizers come and go, and none runs ---- */

static struct expected {
  GC_finalization_proc function; /* NULL: none */
  GC_word argument;
} expected[OBJECTS];

static void never(void *object, void *argument) {
  say("FAILED: the finalizer of an object that is held ran");
  REQUIRE(object == NULL && argument == NULL);
}

static void never_either(void *object, void *argument) { never(object, argument); }

static void check_old(int index, GC_finalization_proc function, void *argument) {
  REQUIRE(function == expected[index].function);
  REQUIRE((GC_word)argument == (function ? expected[index].argument : 0));
}

static void before_free(void *object) {
  for (int i = 0; i < OBJECTS; i++) {
    if (objects_at(i) != object || expected[i].function == NULL) continue;
    GC_finalization_proc function = never;
    void *argument = &function;
    registrars[any_below(4)](object, NULL, NULL, &function, &argument);
    check_old(i, function, argument);
    expected[i].function = NULL;
  }
}

static void register_one(void) {
  int index = (int)any_below(OBJECTS), form = (int)any_below(4);
  if (!objects_is_plain(index)) return;
  GC_finalization_proc functions[] = {NULL, never, never_either}, old = never;
  struct expected next = {functions[any_below(3)], any_below(1000)};
  void *old_argument = &next;
  registrars[form](objects_at(index), next.function, (void *)next.argument, &old, &old_argument);
  say("finalizer %c: %s after %s", form_letters[form], next.function ? "one" : "none", old ? "one" : "none");
  check_old(index, old, old_argument);
  if (any_chance(30)) registrars[form](objects_at(index), next.function, (void *)next.argument, NULL, NULL);
  expected[index] = next;
}

static void register_foreign(void) {
  static int outside;
  GC_finalization_proc old = never;
  void *old_argument = &old;
  registrars[any_below(4)](&outside, never, NULL, &old, &old_argument);
  say("finalizer of what is no object: %d", old == NULL && old_argument == NULL);
}

/* ---- graphs ---- */

enum { NODES_MAX = 6, EDGES = 3, ROUNDS = 8 };

struct node {
  struct node *edges[EDGES];
  GC_word padding[2];
};

struct plan {
  int nodes;
  int edges[NODES_MAX][EDGES];  /* -1: none */
  int form[NODES_MAX];          /* -1: no finalizer */
  int old_form[NODES_MAX];      /* registered before, -1: none */
  int argument_node[NODES_MAX]; /* the argument is that node, -1: none */
  bool is_rescued[NODES_MAX];   /* the finalizer puts the object where it is held */
  bool is_renewed[NODES_MAX];   /* the finalizer registers itself again, once */
  bool is_linked[NODES_MAX];    /* has a short and a long link */
  bool is_held[NODES_MAX];      /* by a root, for the first rounds */
  bool is_debug;
  bool is_on_demand;
  bool is_java; /* always where a finalizer's object may be needed by another's */
  bool is_busy; /* finalizers allocate */
};

static struct plan plan;
static GC_word plan_number; /* finalizers of earlier plans do not count */

/* What happened to each node of each copy; words in disguise. */
static int ran[NODES_MAX][COPIES];
static bool renewed[NODES_MAX][COPIES];
static void *short_links[NODES_MAX][COPIES], *long_links[NODES_MAX][COPIES];
static int
    wrong_links; /* a short link that was not cleared before its object's finalizer ran, or a long one that was */
static int notified;
static void **rescued, **roots; /* uncollectable; of COPIES for each node */

enum { TAG_NODES = 8, TABLE_BYTES = NODES_MAX * COPIES * sizeof(void *) };

/* The plan, the copy and the node as a number that is no address. */
static GC_word make_tag(int node, int copy) {
  return (plan_number * COPIES + (GC_word)copy) * TAG_NODES + (GC_word)node;
}

/* A node's tag is in its padding, since its argument may be another node. */
static void on_node(void *object, void *argument) {
  struct node *node = object;
  GC_word tag = node->padding[0];
  int at = (int)(tag % TAG_NODES), copy = (int)(tag / TAG_NODES % COPIES);
  if (tag / TAG_NODES / COPIES != plan_number) return;
  REQUIRE(at < plan.nodes && ~node->padding[1] == tag);
  ran[at][copy]++;
  if (plan.argument_node[at] >= 0)
    REQUIRE(((struct node *)argument)->padding[0] == make_tag(plan.argument_node[at], copy));
  for (int i = 0; i < EDGES; i++)
    if (plan.edges[at][i] >= 0 && node->edges[i] != NULL)
      REQUIRE(node->edges[i]->padding[0] == make_tag(plan.edges[at][i], copy));
  if (plan.is_linked[at] && ran[at][copy] == 1)
    wrong_links += short_links[at][copy] != NULL || long_links[at][copy] == NULL;
  for (int i = 0; plan.is_busy && i < 20; i++) REQUIRE(GC_malloc(sizeof(struct node)) != NULL);
  if (plan.is_rescued[at]) rescued[at * COPIES + copy] = object;
  if (!plan.is_renewed[at] || renewed[at][copy]) return;
  renewed[at][copy] = true;
  registrar *const *table = plan.is_debug ? debug_registrars : registrars;
  table[plan.form[at]](object, on_node, argument, NULL, NULL);
}

static void on_replaced(void *object, void *argument) {
  (void)argument;
  struct node *node = object;
  REQUIRE(node->padding[0] / TAG_NODES / COPIES != plan_number);
}

static int any_form(void) { return any_chance(75) ? (int)any_below(4) : -1; }

static void choose_plan(void) {
  plan = (struct plan){.nodes = 1 + (int)any_below(NODES_MAX),
                       .is_debug = any_chance(15),
                       .is_on_demand = any_chance(20),
                       .is_java = any_chance(50),
                       .is_busy = any_chance(20)};
  bool has_arguments = any_chance(30), has_links = any_chance(60), has_held = any_chance(30);
  unsigned density = 15 + (unsigned)any_below(30);
  for (int i = 0; i < plan.nodes; i++) {
    for (int k = 0; k < EDGES; k++) plan.edges[i][k] = any_chance(density) ? (int)any_below((size_t)plan.nodes) : -1;
    plan.form[i] = any_form();
    plan.old_form[i] = any_chance(10) ? any_form() : -1;
    plan.argument_node[i] = has_arguments && any_chance(30) ? (int)any_below((size_t)plan.nodes) : -1;
    plan.is_rescued[i] = any_chance(15);
    plan.is_renewed[i] = any_chance(15);
    plan.is_linked[i] = has_links && any_chance(50);
    plan.is_held[i] = has_held && any_chance(30);
    plan.is_java |= plan.form[i] >= 2 || plan.old_form[i] >= 2;
  }
}

static void describe_node(int i) {
  char text[200];
  int length = snprintf(text, sizeof text, "  node %d %c", i, plan.form[i] >= 0 ? form_letters[plan.form[i]] : '-');
  for (int k = 0; k < EDGES; k++)
    if (plan.edges[i][k] >= 0)
      length += snprintf(text + length, sizeof text - (size_t)length, " >%d", plan.edges[i][k]);
  if (plan.argument_node[i] >= 0)
    length += snprintf(text + length, sizeof text - (size_t)length, " argument %d", plan.argument_node[i]);
  say("%s%s%s%s%s", text, plan.is_rescued[i] ? " rescued" : "", plan.is_renewed[i] ? " renewed" : "",
      plan.is_linked[i] ? " linked" : "", plan.is_held[i] ? " held" : "");
}

static void register_node(struct node *node, int at, struct node *const *nodes) {
  registrar *const *table = plan.is_debug ? debug_registrars : registrars;
  if (plan.old_form[at] >= 0) table[plan.old_form[at]](node, on_replaced, NULL, NULL, NULL);
  void *argument = plan.argument_node[at] >= 0 ? nodes[plan.argument_node[at]] : NULL;
  GC_finalization_proc old = NULL;
  if (plan.form[at] >= 0)
    table[plan.form[at]](node, on_node, argument, &old, NULL);
  else
    table[0](node, NULL, NULL, &old, NULL);
  REQUIRE((old == on_replaced) == (plan.old_form[at] >= 0));
}

static NOINLINE void make_copy(int copy) {
  struct node *nodes[NODES_MAX];
  for (int i = 0; i < plan.nodes; i++) {
    nodes[i] = plan.is_debug ? GC_debug_malloc(sizeof(struct node), GC_EXTRAS) : GC_malloc(sizeof(struct node));
    REQUIRE(nodes[i] != NULL);
    nodes[i]->padding[0] = make_tag(i, copy);
    nodes[i]->padding[1] = ~nodes[i]->padding[0];
  }
  for (int i = 0; i < plan.nodes; i++) {
    for (int k = 0; k < EDGES; k++)
      if (plan.edges[i][k] >= 0) nodes[i]->edges[k] = nodes[plan.edges[i][k]];
    register_node(nodes[i], i, nodes);
    if (plan.is_held[i]) roots[i * COPIES + copy] = nodes[i];
    if (!plan.is_linked[i]) continue;
    void *base = GC_base(nodes[i]);
    short_links[i][copy] = long_links[i][copy] = (void *)GC_HIDE_POINTER(nodes[i]);
    REQUIRE(GC_general_register_disappearing_link(&short_links[i][copy], base) == GC_SUCCESS);
    REQUIRE(GC_register_long_link(&long_links[i][copy], base) == GC_SUCCESS);
  }
  memset(nodes, 0, sizeof nodes);
  GC_reachable_here(nodes);
}

static void on_notify(void) { notified++; }

/* Of a few copies the first collections may know no better than that they live. */
static const char *by_majority(int count) {
  if (4 * count <= COPIES) return "-";
  return 4 * count >= 3 * COPIES ? "+" : "?";
}

struct counts {
  int ran[NODES_MAX], gone_short[NODES_MAX], gone_long[NODES_MAX];
};

static void count_all(struct counts *counts) {
  memset(counts, 0, sizeof *counts);
  for (int i = 0; i < plan.nodes; i++)
    for (int copy = 0; copy < COPIES; copy++) {
      counts->ran[i] += ran[i][copy];
      counts->gone_short[i] += plan.is_linked[i] && short_links[i][copy] == NULL;
      counts->gone_long[i] += plan.is_linked[i] && long_links[i][copy] == NULL;
    }
}

static void say_round(int round, const struct counts *before, const struct counts *now) {
  char text[200] = "";
  int length = 0;
  for (int i = 0; i < plan.nodes; i++)
    length += snprintf(
        text + length, sizeof text - (size_t)length, " %d%s%s%s", i, by_majority(now->ran[i] - before->ran[i]),
        by_majority(now->gone_short[i] - before->gone_short[i]), by_majority(now->gone_long[i] - before->gone_long[i]));
  say("  round %d:%s", round, text);
}

static void run_on_demand(void) {
  bool should = GC_should_invoke_finalizers() != 0;
  int count = GC_invoke_finalizers();
  REQUIRE(should == (count > 0));
}

static void run_round(int round, struct counts *before) {
  struct counts now;
  collect();
  if (plan.is_on_demand) {
    count_all(&now);
    for (int i = 0; i < plan.nodes; i++) REQUIRE(now.ran[i] == before->ran[i]);
    run_on_demand();
  }
  count_all(&now);
  say_round(round, before, &now);
  *before = now;
}

/* To another place and back: only those that are still registered. */
static void move_links(void) {
  static void *elsewhere;
  for (int i = 0; i < plan.nodes; i++) {
    for (int copy = 0; copy < COPIES && plan.is_linked[i]; copy++) {
      int result = short_links[i][copy] ? GC_SUCCESS : GC_NOT_FOUND;
      REQUIRE(GC_move_disappearing_link(&short_links[i][copy], &elsewhere) == result);
      REQUIRE(GC_move_disappearing_link(&elsewhere, &short_links[i][copy]) == result);
      result = long_links[i][copy] ? GC_SUCCESS : GC_NOT_FOUND;
      REQUIRE(GC_move_long_link(&long_links[i][copy], &elsewhere) == result);
      REQUIRE(GC_move_long_link(&elsewhere, &long_links[i][copy]) == result);
    }
  }
}

static void end_links(void) {
  for (int i = 0; i < plan.nodes; i++) {
    for (int copy = 0; copy < COPIES; copy++) {
      if (!plan.is_linked[i]) continue;
      REQUIRE(GC_unregister_disappearing_link(&short_links[i][copy]) == (short_links[i][copy] != NULL));
      REQUIRE(GC_unregister_long_link(&long_links[i][copy]) == (long_links[i][copy] != NULL));
      short_links[i][copy] = long_links[i][copy] = NULL;
    }
  }
}

static void run_graph(void) {
  struct counts counts = {0};
  GC_word bytes_per_finalizer = GC_get_allocd_bytes_per_finalizer();
  choose_plan();
  plan_number++;
  memset(ran, 0, sizeof ran);
  memset(renewed, 0, sizeof renewed);
  wrong_links = notified = 0;
  say("graph%s%s%s%s", plan.is_debug ? ", debug" : "", plan.is_on_demand ? ", on demand" : "",
      plan.is_java ? "" : ", not as in Java", plan.is_busy ? ", busy" : "");
  for (int i = 0; i < plan.nodes; i++) describe_node(i);
  collect_only_asked(true);
  GC_invoke_finalizers();
  GC_set_allocd_bytes_per_finalizer(0); /* nor for the number of finalizers */
  GC_set_finalize_on_demand(plan.is_on_demand);
  GC_set_java_finalization(plan.is_java);
  GC_set_finalizer_notifier(on_notify);
  REQUIRE(GC_get_finalizer_notifier() == on_notify && GC_get_disable_automatic_collection() == 1);
  for (int copy = 0; copy < COPIES; copy++) make_copy(copy);
  for (int round = 1; round <= ROUNDS; round++) {
    if (round == 2) move_links();
    if (round == 3) memset(roots, 0, TABLE_BYTES);
    if (round == ROUNDS / 2) memset(rescued, 0, TABLE_BYTES);
    run_round(round, &counts);
  }
  bool some_ran = false;
  for (int i = 0; i < plan.nodes; i++) some_ran |= counts.ran[i] > 0;
  if (some_ran) say("  notified: %d, links in finalizers: %s wrong", notified > 0, share(wrong_links, COPIES));
  REQUIRE(plan.is_on_demand || notified == 0);
  memset(rescued, 0, TABLE_BYTES);
  end_links();
  GC_set_finalizer_notifier(NULL);
  GC_set_java_finalization(1);
  GC_set_finalize_on_demand(0);
  GC_set_allocd_bytes_per_finalizer(bytes_per_finalizer);
  collect_only_asked(false);
}

/* ---- objects allocated with their finalizers ---- */

static int closed, closed_wrong;

static void on_closed(void *object, void *argument) {
  GC_word *words = object;
  closed++;
  closed_wrong += words[0] != ~words[1] || strcmp(argument, "argument") != 0;
}

/* Closure and argument are objects, too, that nothing else leads to. */
static NOINLINE void make_closed(size_t bytes, void **kept) {
  struct GC_finalizer_closure *closure = GC_malloc(sizeof *closure);
  *closure = (struct GC_finalizer_closure){on_closed, GC_strdup("argument")};
  for (int copy = 0; copy < COPIES; copy++) {
    GC_word *object = GC_finalized_malloc(bytes, closure);
    REQUIRE(object != NULL && object[0] == 0 && object[1] == 0);
    object[1] = ~(object[0] = make_tag(0, copy));
    if (kept != NULL) kept[copy] = object;
  }
}

/* The stock library calls them as it sweeps. */
static void close_dead(size_t bytes) {
  for (int i = 0; i < 3; i++) {
    collect();
    for (int k = 0; k < 5000; k++) GC_malloc(bytes);
  }
}

static void run_closures(void) {
  size_t bytes = 16 + any_below(200);
  bool is_kept = any_chance(30);
  closed = closed_wrong = 0;
  make_closed(bytes, is_kept ? roots : NULL);
  close_dead(bytes);
  say("closures of %zu: %s called, %d wrong", bytes, share(closed, COPIES), closed_wrong);
  REQUIRE(!is_kept || closed == 0);
  memset(roots, 0, TABLE_BYTES);
  close_dead(bytes);
  say("closures: %s called, %d wrong", share(closed, COPIES), closed_wrong);
}

/* ---- steps ---- */

void finalizers_init(void) {
  objects_on_free(before_free);
  rescued = GC_malloc_uncollectable(TABLE_BYTES);
  roots = GC_malloc_uncollectable(TABLE_BYTES);
  REQUIRE(rescued != NULL && roots != NULL);
}

void finalizers_step(void) {
  if (any_chance(10))
    register_foreign();
  else if (any_chance(60))
    register_one();
  else if (any_chance(10))
    run_closures();
  else
    run_graph();
}

/* All finalizers that are left run, also of objects that are held, and those that they register; the notifier is not called. */
static int last_ran;

static void on_last(void *object, void *argument) {
  GC_word more = (GC_word)argument;
  last_ran++;
  if (more > 0) GC_register_finalizer_no_order(object, on_last, (void *)(more - 1), NULL, NULL);
}

void finalizers_at_end(void) {
  static void *kept[4];
  plan_number++;
  GC_finalize_all();
  GC_set_finalize_on_demand(any_chance(50));
  GC_set_finalizer_notifier(on_notify);
  notified = 0;
  for (int i = 0; i < 4; i++) {
    kept[i] = GC_malloc(40);
    registrars[i](kept[i], on_last, (void *)(GC_word)i, NULL, NULL);
  }
  GC_finalize_all();
  say("finalize_all: %d ran, notified %d", last_ran, notified);
  GC_finalize_all();
  say("finalize_all: %d ran", last_ran);
  GC_set_finalizer_notifier(NULL);
  GC_set_finalize_on_demand(0);
}
