/* The pacer of the concurrent cycle, with simulated programs and a simulated collector that uses it as the real one
 * does.
 *
 * A program has processors, threads that allocate as fast as they get processor time, a live heap, a part of it that
 * is scanned.  All of these change from moment to moment and from cycle to cycle, with some noise.  The collector
 * begins at the trigger, gets going a little later, marks in the background, revises every millisecond, and takes a
 * little time to end.  While it marks, a thread pays for what it allocates, from the workers' credit or by scanning. 
 * Both are taken for fluids: in a step, every figure changes in proportion to time.
 *
 * The *share* of the collector is its processor time from the trigger to the end of marking, workers and assists, by
 * the time of all processors meanwhile. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "gc/limiter.h"
#include "gc/pacer.h"
#include "gc/pacer_cycle.h"
#include "support/heap_test.h"

#define KIB ((double)(1 << 10))
#define MIB ((double)(1 << 20))
#define GIB ((double)(1 << 30))
#define US_NS 1000.0
#define MS_NS 1000000.0

enum { WARM_UP = 4, CYCLES = 60 };

/* Between cycles less happens: so many steps at once. */
enum { OFF_STEPS = 16 };

/* From the trigger until marking runs, and from the last grey object until it is over. */
#define BEGIN_NS (150 * US_NS)
#define END_NS (100 * US_NS)

static struct rng rng;

/* 1, give or take so much. */
static double about_one(double spread) { return 1 + spread * ((double)rng_below(&rng, 2001) / 1000 - 1); }

static double larger(double a, double b) { return a > b ? a : b; }

/* ---- programs ---- */

struct program {
  const char *name;
  unsigned cpus, threads, markers;
  double live_bytes;
  double scannable;    /* part of the live heap */
  double alloc_per_ns; /* bytes, each thread that has a processor */
  double mark_per_ns;  /* bytes, each processor */
  double step_ns;      /* of the simulation */
  double noise;        /* of all figures, relative */
  int percent;
  double limit_bytes; /* 0 for none */
  /* What changes; NULL: nothing.  Factors on the above. */
  double (*live)(unsigned cycle);
  double (*scan)(unsigned cycle);
  double (*alloc)(double now_ns);
  double (*busy)(double now_ns); /* threads that run */
  double huge_bytes;             /* allocated at once in the middle of each tenth cycle */
};

/* Two processors, both busy, as in a service that does some work for what it allocates. */
static struct program steady_program(void) {
  return (struct program){.name = "steady",
                          .cpus = 2,
                          .threads = 2,
                          .markers = 2,
                          .live_bytes = 256 * MIB,
                          .scannable = 0.7,
                          .alloc_per_ns = 0.2,
                          .mark_per_ns = 1,
                          .step_ns = 125 * US_NS,
                          .noise = 0.05,
                          .percent = 100};
}

/* ---- the simulation ---- */

struct simulation {
  const struct program *program;
  struct pacer pacer;
  struct pacer_cycle cycle;
  struct pacer_share share;
  struct limiter limiter;
  double now_ns;
  double process_ns, collector_ns; /* processor time */
  double live_bytes;               /* the account */
  double noise;                    /* of allocation, for a while */
  double noise_until_ns;
  size_t goal_bytes, marked_bytes;
};

/* One cycle. */
struct marking {
  double reachable_bytes, scan_bytes; /* when it began */
  double done_bytes, credit_bytes;
  double background_bytes, assist_bytes;
  double background_ns, assist_ns, mutator_ns, wall_ns; /* the first three: processor time */
  double withheld_bytes, withheld_ns;                   /* from the workers; the threads mark instead */
  double owed_cpus;                                     /* in the last step */
  double allowed_bytes;                                 /* the goal, or what a huge object left */
  double ratio_most;
};

struct cycle_figures {
  double goal_bytes, allowed_bytes, peak_bytes;
  double share, assisted; /* see struct outcome */
  double off_ns, mark_ns, off_part;
  double ratio_most;
};

static double factor(double (*of)(unsigned), unsigned cycle) { return of == NULL ? 1 : of(cycle); }
static double factor_at(double (*of)(double), double now_ns) { return of == NULL ? 1 : of(now_ns); }

/* Bytes that a thread allocates in a nanosecond. */
static double alloc_rate(struct simulation *simulation) {
  const struct program *program = simulation->program;
  if (simulation->now_ns >= simulation->noise_until_ns) {
    simulation->noise = about_one(2 * program->noise);
    simulation->noise_until_ns = simulation->now_ns + 10 * MS_NS * about_one(0.9);
  }
  return program->alloc_per_ns * simulation->noise * factor_at(program->alloc, simulation->now_ns);
}

static double running_threads(const struct simulation *simulation) {
  return simulation->program->threads * factor_at(simulation->program->busy, simulation->now_ns);
}

static double mutator_cpus(const struct simulation *simulation, double workers) {
  double left = simulation->program->cpus - workers, threads = running_threads(simulation);
  return threads < left ? threads : left;
}

static double worker_cpus(const struct simulation *simulation) {
  return simulation->share.workers - 1 + simulation->share.duty;
}

/* The program alone, for a time. */
static void run_free(struct simulation *simulation, struct marking *marking, double ns) {
  double cpus = mutator_cpus(simulation, 0);
  simulation->live_bytes += cpus * ns * alloc_rate(simulation);
  simulation->now_ns += ns;
  simulation->process_ns += cpus * ns;
  if (marking == NULL) return;
  marking->mutator_ns += cpus * ns;
  marking->wall_ns += ns;
}

/* As the collector does: what only the memory limit asks for may have to wait. */
static bool begins(struct simulation *simulation) {
  return simulation->live_bytes >= (double)pacer_unlimited_goal(&simulation->pacer, simulation->marked_bytes) ||
         limiter_allows(&simulation->limiter, (uint64_t)simulation->process_ns);
}

static void run_until_trigger(struct simulation *simulation) {
  const struct program *program = simulation->program;
  double trigger_bytes =
      (double)pacer_cycle_trigger(&simulation->cycle, simulation->goal_bytes, simulation->marked_bytes);
  for (;;) {
    while (simulation->live_bytes < trigger_bytes) {
      double per_ns = mutator_cpus(simulation, 0) * alloc_rate(simulation);
      double ns = (trigger_bytes - simulation->live_bytes + 1) / per_ns, step_ns = OFF_STEPS * program->step_ns;
      run_free(simulation, NULL, ns < step_ns ? ns : step_ns);
    }
    if (begins(simulation)) return;
    trigger_bytes = simulation->live_bytes + (double)pacer_headroom((size_t)simulation->live_bytes);
  }
}

/* What threads allocate in so much of their processor time, and scan for it:
 * time = allocated / rate + (allocated * ratio - credit) / speed. */
static double allocate(struct simulation *simulation, const struct marking *marking, double cpu_ns,
                       double *owed_bytes) {
  double rate = alloc_rate(simulation), speed = simulation->program->mark_per_ns;
  double ratio = pacer_cycle_assist_ratio(&simulation->cycle);
  double bytes = cpu_ns * rate;
  *owed_bytes = 0;
  if (bytes * ratio <= marking->credit_bytes) return bytes;
  double in_debt = (cpu_ns + marking->credit_bytes / speed) / (1 / rate + ratio / speed);
  *owed_bytes = in_debt * ratio - marking->credit_bytes;
  return in_debt;
}

static void mark_step(struct simulation *simulation, struct marking *marking, double speed_noise) {
  double speed = simulation->program->mark_per_ns * speed_noise, ns = simulation->program->step_ns;
  double workers = worker_cpus(simulation), mutators = mutator_cpus(simulation, workers);
  double scanned = workers * ns * speed, owed;
  double allocated = allocate(simulation, marking, mutators * ns, &owed);
  double left = marking->scan_bytes - marking->done_bytes;
  double part = scanned + owed > left ? left / (scanned + owed) : 1; /* of the step, until all is marked */
  marking->credit_bytes += scanned * part;
  double drawn = allocated * part * pacer_cycle_assist_ratio(&simulation->cycle) - owed * part;
  marking->credit_bytes = drawn < marking->credit_bytes ? marking->credit_bytes - drawn : 0;
  marking->done_bytes += (scanned + owed) * part;
  marking->background_bytes += scanned * part;
  marking->assist_bytes += owed * part;
  marking->background_ns += workers * ns * part;
  marking->withheld_ns += simulation->share.withheld_cpus * ns * part;
  marking->withheld_bytes += simulation->share.withheld_cpus * ns * part * speed;
  marking->owed_cpus = allocated * pacer_cycle_assist_ratio(&simulation->cycle) / speed / ns;
  marking->assist_ns += owed * part / simulation->program->mark_per_ns;
  double mutator_ns = mutators * ns * part - owed * part / simulation->program->mark_per_ns;
  marking->mutator_ns += mutator_ns;
  simulation->process_ns += mutator_ns;
  marking->wall_ns += ns * part;
  simulation->now_ns += ns * part;
  simulation->live_bytes += allocated * part;
}

static struct pacer_progress progress(const struct simulation *simulation, const struct marking *marking) {
  return (struct pacer_progress){.live_bytes = (size_t)simulation->live_bytes,
                                 .background_bytes = (size_t)marking->background_bytes,
                                 .assist_bytes = (size_t)marking->assist_bytes,
                                 .assist_ns = (uint64_t)marking->assist_ns,
                                 .mutator_ns = (uint64_t)marking->mutator_ns,
                                 .withheld_bytes = (size_t)marking->withheld_bytes,
                                 .withheld_ns = (uint64_t)marking->withheld_ns};
}

static void revise(struct simulation *simulation, struct marking *marking) {
  const struct pacer_progress now = progress(simulation, marking);
  pacer_cycle_revise(&simulation->cycle, &now);
  double most = (double)pacer_cycle_credit_most(&simulation->cycle);
  if (marking->credit_bytes > most) marking->credit_bytes = most;
  double ratio = pacer_cycle_assist_ratio(&simulation->cycle);
  if (ratio > marking->ratio_most) marking->ratio_most = ratio;
}

static void adjust(struct simulation *simulation, const struct marking *marking) {
  const struct program *program = simulation->program;
  const struct pacer_load load = {.mutator_cpus = mutator_cpus(simulation, worker_cpus(simulation)),
                                  .owed_cpus = marking->owed_cpus,
                                  .payers = program->threads};
  pacer_share_adjust(&simulation->share, program->cpus, program->markers, load);
}

static void mark(struct simulation *simulation, struct marking *marking, double huge_bytes) {
  double speed_noise = about_one(simulation->program->noise), revise_ns = 0, adjust_ns = 0;
  while (marking->done_bytes + 1 < marking->scan_bytes) {
    mark_step(simulation, marking, speed_noise);
    if (huge_bytes != 0 && marking->done_bytes > marking->scan_bytes / 2) {
      simulation->live_bytes += huge_bytes;
      marking->allowed_bytes = larger(marking->allowed_bytes, simulation->live_bytes);
      huge_bytes = 0;
    }
    if (marking->wall_ns >= revise_ns) {
      revise(simulation, marking);
      revise_ns = marking->wall_ns + MS_NS;
    }
    if (marking->wall_ns >= adjust_ns) {
      adjust(simulation, marking);
      adjust_ns = marking->wall_ns + 10 * MS_NS;
    }
  }
}

static void end_cycle(struct simulation *simulation, const struct marking *marking, double allocated) {
  const struct pacer_progress end = progress(simulation, marking);
  pacer_cycle_end(&simulation->cycle, &end, false);
  double collector_ns = marking->background_ns + marking->assist_ns;
  simulation->process_ns += collector_ns;
  simulation->collector_ns += collector_ns;
  limiter_charge(&simulation->limiter, (uint64_t)collector_ns);
  simulation->live_bytes = marking->reachable_bytes + allocated; /* all of that is black */
  simulation->marked_bytes = (size_t)simulation->live_bytes;
  simulation->goal_bytes = pacer_goal(&simulation->pacer, simulation->marked_bytes, &(struct pacer_footprint){0});
}

static struct marking begin_cycle(struct simulation *simulation, unsigned number) {
  const struct program *program = simulation->program;
  double live = program->live_bytes * factor(program->live, number) * about_one(program->noise / 2);
  double scannable = program->scannable * factor(program->scan, number) * about_one(program->noise / 2);
  if (live > simulation->live_bytes) live = simulation->live_bytes;
  pacer_cycle_begin(&simulation->cycle, (size_t)simulation->live_bytes, simulation->goal_bytes);
  return (struct marking){.reachable_bytes = live,
                          .scan_bytes = live * (scannable < 1 ? scannable : 1),
                          .allowed_bytes = larger((double)simulation->goal_bytes, simulation->live_bytes),
                          .credit_bytes = (double)pacer_cycle_credit_most(&simulation->cycle)};
}

static struct cycle_figures run_cycle(struct simulation *simulation, unsigned number) {
  const struct program *program = simulation->program;
  double off_from_ns = simulation->now_ns, marked = simulation->live_bytes;
  run_until_trigger(simulation);
  double off_ns = simulation->now_ns - off_from_ns, begin_bytes = simulation->live_bytes;
  struct marking marking = begin_cycle(simulation, number);
  run_free(simulation, &marking, BEGIN_NS);
  mark(simulation, &marking, number % 10 == 9 ? program->huge_bytes : 0);
  run_free(simulation, &marking, END_NS);
  const struct cycle_figures figures = {
      .goal_bytes = (double)simulation->goal_bytes,
      .allowed_bytes = marking.allowed_bytes,
      .peak_bytes = simulation->live_bytes,
      .share = (marking.background_ns + marking.assist_ns) / (marking.wall_ns * program->cpus),
      .assisted =
          marking.scan_bytes > 0 ? larger(marking.assist_bytes - marking.withheld_bytes, 0) / marking.scan_bytes : 0,
      .off_ns = off_ns,
      .mark_ns = marking.wall_ns,
      .off_part = (begin_bytes - marked) / ((double)simulation->goal_bytes - marked),
      .ratio_most = marking.ratio_most};
  end_cycle(simulation, &marking, simulation->live_bytes - begin_bytes);
  return figures;
}

/* ---- what comes out ---- */

struct outcome {
  double peak_most, peak_least; /* by the goal, or by what a huge object left */
  double share_mean, share_most;
  double assisted_mean,
      assisted_most; /* part of the scan work that assists did, beyond what was withheld from workers */
  double off_least;  /* part of the way from the marked bytes to the goal that lies between two cycles */
  double ratio_most, peak_bytes;
  double marking;         /* part of the time */
  double collector_share; /* of the processor time of all */
};

static void add_figures(struct outcome *outcome, const struct cycle_figures *figures, double weight) {
  double peak = figures->peak_bytes / figures->allowed_bytes;
  outcome->peak_most = larger(outcome->peak_most, peak);
  if (peak < outcome->peak_least) outcome->peak_least = peak;
  outcome->share_mean += figures->share * weight;
  outcome->share_most = larger(outcome->share_most, figures->share);
  outcome->assisted_mean += figures->assisted * weight;
  outcome->assisted_most = larger(outcome->assisted_most, figures->assisted);
  if (figures->off_part < outcome->off_least) outcome->off_least = figures->off_part;
  outcome->ratio_most = larger(outcome->ratio_most, figures->ratio_most);
  outcome->peak_bytes = larger(outcome->peak_bytes, figures->peak_bytes);
}

static struct simulation start(const struct program *program) {
  struct simulation simulation = {.program = program,
                                  .pacer = {.percent = program->percent,
                                            .min_heap_bytes = (size_t)(4 * MIB),
                                            .initial_heap_bytes = (size_t)(4 * MIB),
                                            .memory_limit_bytes = SIZE_MAX,
                                            .max_heap_bytes = SIZE_MAX}};
  if (program->limit_bytes != 0) simulation.pacer.memory_limit_bytes = (size_t)program->limit_bytes;
  pacer_share_adjust(&simulation.share, program->cpus, program->markers,
                     (struct pacer_load){.mutator_cpus = program->threads});
  limiter_init(&simulation.limiter, 0);
  simulation.live_bytes = program->live_bytes * factor(program->live, 0);
  simulation.marked_bytes = (size_t)simulation.live_bytes;
  simulation.goal_bytes = pacer_goal(&simulation.pacer, simulation.marked_bytes, &(struct pacer_footprint){0});
  return simulation;
}

static struct outcome simulate(const struct program *program, unsigned cycles) {
  struct simulation simulation = start(program);
  struct outcome outcome = {.peak_least = 1e9, .off_least = 1e9};
  double off_ns = 0, mark_ns = 0;
  for (unsigned i = 0; i < cycles; i++) {
    struct cycle_figures figures = run_cycle(&simulation, i);
    if (i < WARM_UP) continue;
    add_figures(&outcome, &figures, 1.0 / (cycles - WARM_UP));
    off_ns += figures.off_ns;
    mark_ns += figures.mark_ns;
  }
  outcome.marking = mark_ns / (off_ns + mark_ns);
  outcome.collector_share = simulation.collector_ns / simulation.process_ns;
  return outcome;
}

static struct outcome show(const struct program *program, unsigned cycles) {
  struct outcome o = simulate(program, cycles);
  printf(
      "%-16s peak %.2f..%.2f of goal | share %4.1f%%, most %4.1f%% | assists %4.1f%%, most %4.1f%% of scan work | "
      "%.0f%% of the way before | ratio to %.1f | marking %.0f%% of the time\n",
      program->name, o.peak_least, o.peak_most, 100 * o.share_mean, 100 * o.share_most, 100 * o.assisted_mean,
      100 * o.assisted_most, 100 * o.off_least, o.ratio_most, 100 * o.marking);
  fflush(stdout);
  return o;
}

/* ---- what is demanded ---- */

/* The runway is at most 40% of the way; a step of the simulation may miss the trigger by a little. */
#define OFF_LEAST 0.59

static void require_peak(const struct program *program, const struct outcome *o) {
  REQUIRE(o->peak_most <= 1.1, "%s: peak %f of the goal", program->name, o->peak_most);
  REQUIRE(o->off_least >= OFF_LEAST, "%s: a cycle after %f of the way", program->name, o->off_least);
  REQUIRE(o->ratio_most <= PACER_ASSIST_RATIO_MAX, "%s: ratio %f", program->name, o->ratio_most);
}

/* Not too early either. */
static void require_at_goal(const struct program *program, const struct outcome *o) {
  require_peak(program, o);
  REQUIRE(o->peak_least >= 0.9, "%s: a cycle ended at %f of the goal", program->name, o->peak_least);
}

/* Within two points of it where the program is steady; less where it is not: the runway is long enough for the worst of its moments,
 * and threads that mark in place of workers keep to the line, and do not finish early. */
static void require_quarter(const struct program *program, const struct outcome *o, double least, double assisted) {
  REQUIRE(o->share_mean >= least && o->share_mean <= 0.27, "%s: share %f", program->name, o->share_mean);
  REQUIRE(o->assisted_mean <= assisted, "%s: assists %f", program->name, o->assisted_mean);
}

/* ---- the live heap is stable ---- */

static void steady(void **state) {
  (void)state;
  struct program program = steady_program();
  struct outcome o = show(&program, CYCLES);
  require_at_goal(&program, &o);
  require_quarter(&program, &o, 0.23, 0.02);
  program.name = "six processors"; /* one worker and a half, a hundred threads */
  program.cpus = 6;
  program.threads = 100;
  o = show(&program, CYCLES);
  require_at_goal(&program, &o);
  require_quarter(&program, &o, 0.23, 0.02);
  program.name = "1 TiB";
  program.live_bytes = 1024 * GIB;
  program.cpus = program.threads = 64;
  program.markers = 16;
  program.step_ns = MS_NS;
  o = show(&program, 20);
  require_at_goal(&program, &o);
  require_quarter(&program, &o, 0.23, 0.02);
}

static double ten_times_each_700_ms(double now_ns) { return (uint64_t)(now_ns / (700 * MS_NS)) % 2 ? 10 : 1; }
static double ten_times_each_20_s(double now_ns) { return (uint64_t)(now_ns / (20000 * MS_NS)) % 2 ? 10 : 1; }

/* Long phases are forgotten, and the first cycle of a new one has to assist for it: so a wider mean. */
static void bursty(void **state) {
  (void)state;
  struct program program = steady_program();
  program.name = "bursty";
  program.alloc_per_ns /= 8;
  program.alloc = ten_times_each_700_ms;
  struct outcome o = show(&program, CYCLES);
  require_peak(&program, &o);
  require_quarter(&program, &o, 0.21, 0.06);
  program.name = "long bursts";
  program.alloc = ten_times_each_20_s;
  o = show(&program, CYCLES);
  require_peak(&program, &o);
  REQUIRE(o.share_mean <= 0.30, "share %f", o.share_mean);
  REQUIRE(o.ratio_most <= 16, "ratio %f", o.ratio_most);
}

static void pointer_free(void **state) {
  (void)state;
  struct program program = steady_program();
  program.name = "pointer-free";
  program.scannable = 0;
  struct outcome o = show(&program, CYCLES);
  require_at_goal(&program, &o);
  REQUIRE(o.assisted_mean == 0 && o.ratio_most < 1, "assists %f, ratio %f", o.assisted_mean, o.ratio_most);
}

/* A cycle lasts a few milliseconds: how long it takes to begin and to end counts. */
static void tiny(void **state) {
  (void)state;
  struct program program = steady_program();
  program.name = "tiny";
  program.live_bytes = MIB;
  program.step_ns /= 8;
  struct outcome o = show(&program, CYCLES);
  require_at_goal(&program, &o);
  REQUIRE(o.assisted_mean < 0.05 && o.share_mean < 0.27, "assists %f, share %f", o.assisted_mean, o.share_mean);
}

/* A quarter of the processors cannot keep up, however early a cycle starts. */
static void too_fast_for_a_quarter(void **state) {
  (void)state;
  struct program program = steady_program();
  program.name = "fast";
  program.alloc_per_ns = 1;
  struct outcome o = show(&program, CYCLES);
  require_at_goal(&program, &o);
  REQUIRE(o.marking < 0.75, "marking %f of the time", o.marking);
}

static double half(double now_ns) { return now_ns >= 0 ? 0.5 : 1; }

static void idle_processors_mark(void **state) {
  (void)state;
  struct program program = steady_program();
  program.name = "half idle";
  program.busy = half;
  struct outcome o = show(&program, CYCLES);
  require_at_goal(&program, &o);
  REQUIRE(o.share_mean > 0.4 && o.share_mean <= 0.5, "share %f", o.share_mean);
  REQUIRE(o.assisted_mean <= 0.02, "assists %f", o.assisted_mean);
}

/* ---- it changes ---- */

/* Twice as much after 20 cycles. */
static double grows(unsigned cycle) {
  double live = 1;
  for (unsigned i = 0; i < cycle; i++) live *= 1.0353;
  return live;
}

static double shrinks(unsigned cycle) { return 1 / grows(cycle); }
static double doubles_at_once(unsigned cycle) { return cycle / 10 % 2 ? 2 : 1; }
static double nine_times_each_ten_cycles(unsigned cycle) { return cycle / 10 % 2 ? 9 : 1; }

static void growing_and_shrinking(void **state) {
  (void)state;
  struct program program = steady_program();
  program.name = "growing";
  program.live = grows;
  struct outcome o = show(&program, CYCLES);
  require_at_goal(&program, &o);
  require_quarter(&program, &o, 0.23, 0.03);
  program.name = "shrinking";
  program.live = shrinks;
  o = show(&program, CYCLES);
  require_at_goal(&program, &o);
  require_quarter(&program, &o, 0.23, 0.03);
  program.name = "twice at once";
  program.live = doubles_at_once;
  o = show(&program, CYCLES);
  require_peak(&program, &o);
}

static void scannable_part_changes(void **state) {
  (void)state;
  struct program program = steady_program();
  program.name = "scan phases";
  program.scannable = 0.1;
  program.scan = nine_times_each_ten_cycles;
  struct outcome o = show(&program, CYCLES);
  require_peak(&program, &o);
  REQUIRE(o.ratio_most <= 16, "ratio %f", o.ratio_most);
}

/* The goal cannot be held: no more than a tenth beyond what the object leaves, and no standstill. */
static void one_huge_object(void **state) {
  (void)state;
  struct program program = steady_program();
  program.name = "huge object";
  program.huge_bytes = 400 * MIB;
  struct outcome o = show(&program, CYCLES);
  require_peak(&program, &o);
  REQUIRE(o.ratio_most <= 16, "ratio %f", o.ratio_most);
}

static void memory_limits(void **state) {
  (void)state;
  struct program program = steady_program();
  program.name = "limit";
  program.limit_bytes = 400 * MIB;
  struct outcome o = show(&program, CYCLES);
  require_at_goal(&program, &o);
  REQUIRE(o.peak_bytes <= program.limit_bytes, "peak %f MiB", o.peak_bytes / MIB);
  program.name = "tight limit";
  program.limit_bytes = 280 * MIB;
  program.alloc_per_ns = 0.5;
  o = show(&program, 4 * CYCLES);
  REQUIRE(o.collector_share < 0.55, "share of the processor time %f", o.collector_share);
  REQUIRE(o.peak_bytes <= program.limit_bytes * 1.5, "peak %f MiB", o.peak_bytes / MIB);
}

/* ---- any program ---- */

static struct program random_program(void) {
  struct program program = steady_program();
  program.name = "random";
  program.cpus = 1 + (unsigned)rng_below(&rng, 16);
  program.threads = program.cpus + (unsigned)rng_below(&rng, 16);
  program.markers = program.cpus;
  program.live_bytes = (32 + (double)rng_below(&rng, 1000)) * MIB;
  program.scannable = (double)rng_below(&rng, 1001) / 1000;
  program.mark_per_ns = 0.5 + (double)rng_below(&rng, 1000) / 1000;
  program.alloc_per_ns = program.mark_per_ns * (double)(10 + rng_below(&rng, 500)) / 1000;
  program.noise = (double)rng_below(&rng, 100) / 1000;
  program.percent = 60 + (int)rng_below(&rng, 200);
  if (rng_one_in(&rng, 3)) program.live = doubles_at_once;
  if (rng_one_in(&rng, 4)) program.scan = nine_times_each_ten_cycles;
  if (rng_one_in(&rng, 4)) program.alloc = ten_times_each_700_ms;
  return program;
}

/* What is allocated while a quarter of the processors scans all is less than what the runway can be; and that takes
 * longer than to begin and to end. */
static bool is_quarter_enough(const struct program *program) {
  double runway = 3 * program->alloc_per_ns / program->mark_per_ns * program->scannable;
  double longest = 0.4 * program->percent / 100 * (1 + runway);
  double mark_ns = program->live_bytes * program->scannable / (program->mark_per_ns * program->cpus / 4);
  return program->live == NULL && program->scan == NULL && program->alloc == NULL &&
         mark_ns > 25 * (BEGIN_NS + END_NS) && runway * (1 + 4 * program->noise) < longest;
}

static void random_programs(void **state) {
  (void)state;
  size_t programs = test_steps(100), with_a_quarter = 0;
  for (size_t i = 0; i < programs; i++) {
    struct program program = random_program();
    struct outcome o = simulate(&program, 24);
    require_peak(&program, &o);
    if (!is_quarter_enough(&program)) continue;
    with_a_quarter++;
    require_quarter(&program, &o, 0.12, 0.05);
  }
  printf("random           %zu programs, a quarter was enough for %zu\n", programs, with_a_quarter);
  REQUIRE(programs < 100 || with_a_quarter > programs / 20, "%zu of %zu", with_a_quarter, programs);
}

int main(void) {
  rng = test_start("model/pacer_cycle");
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(steady),
      cmocka_unit_test(bursty),
      cmocka_unit_test(pointer_free),
      cmocka_unit_test(tiny),
      cmocka_unit_test(too_fast_for_a_quarter),
      cmocka_unit_test(idle_processors_mark),
      cmocka_unit_test(growing_and_shrinking),
      cmocka_unit_test(scannable_part_changes),
      cmocka_unit_test(one_huge_object),
      cmocka_unit_test(memory_limits),
      cmocka_unit_test(random_programs),
  };
  return test_run_group(tests);
}
