#include "gc/pacer_cycle.h"

#include "base/bits.h"

/* The runway is no longer than this part of the way from the marked bytes to the goal.  Longer, cycles would follow
 * each other closely; and since all that is allocated in a cycle counts as marked, the heap would grow by it. */
#define RUNWAY_MOST 0.4

/* It is no shorter than this part of the scan work, and of the way, up to some bytes.  So a program that begins to
 * allocate in the midst of a cycle owes no more than eight bytes for one. */
#define RUNWAY_LEAST_OF_SCAN 0.125
#define RUNWAY_LEAST 0.05
#define RUNWAY_LEAST_BYTES ((double)(4 << 20))

/* How far beyond the goal the target may move: with what threads have on credit then, and what they allocate until
 * marking is over, the heap stays within a tenth. */
enum { OVERRUN_DIVISOR = 14 };

/* How much more than in the last cycle is expected, at most. */
enum { GROWTH_DIVISOR = 4 };

/* The last such part of the scan work and of the way to the target is planned as one: both figures are a little wrong,
 * and the quotient of two small remainders would be anything. */
enum { REST_DIVISOR = 32 };

/* Of the scan work.  Less, and threads assist because workers do not run in every moment; more, and a burst of
 * allocation spends it, until too little of the way is left for the rest. */
enum { CREDIT_DIVISOR = 16 };

/* Forecasts are exceeded by so much without meaning anything. */
enum { NOISE_DIVISOR = 16 };

/* Clocks that stand still must not make more of assists than this. */
#define SLOWDOWN_MAX 16.0
#define SLOWDOWN_MIN 0.5

static size_t distance(size_t from, size_t to) { return to > from ? to - from : 0; }

/* ---- between cycles ---- */

/* As much as in the last cycle, and the same growth again; no less if it shrank: that is noise as often as not, and too
 * much costs little. */
static size_t expected_scan(const struct pacer_cycle *cycle) {
  size_t last = cycle->scanned_bytes, before = cycle->scanned_before_bytes;
  size_t growth = last > before ? min_size(last - before, last / GROWTH_DIVISOR) : 0;
  return add_saturating(add_saturating(last, growth), PACER_FIXED_BYTES);
}

static double largest_recent(const struct pacer_cycle *cycle) {
  double largest = 0;
  for (int i = 0; i < PACER_RECENT_CYCLES; i++) largest = max_double(largest, cycle->recent[i]);
  return largest;
}

static double ratio_planned(const struct pacer_cycle *cycle) {
  return max_double(largest_recent(cycle), RUNWAY_LEAST_OF_SCAN);
}

size_t pacer_cycle_trigger(const struct pacer_cycle *cycle, size_t goal_bytes, size_t marked_bytes) {
  if (goal_bytes == SIZE_MAX) return SIZE_MAX;
  if (goal_bytes <= marked_bytes) return marked_bytes;
  double way = (double)(goal_bytes - marked_bytes), most = way * RUNWAY_MOST;
  if (cycle->cycles == 0) return goal_bytes - (size_t)most;
  double least = min_double(way * RUNWAY_LEAST, RUNWAY_LEAST_BYTES);
  double runway = max_double(ratio_planned(cycle) * (double)expected_scan(cycle), least);
  return goal_bytes - (size_t)min_double(most, runway);
}

static void note_scanned(struct pacer_cycle *cycle, size_t scanned_bytes) {
  cycle->scanned_before_bytes = cycle->cycles == 0 ? scanned_bytes : cycle->scanned_bytes;
  cycle->scanned_bytes = scanned_bytes;
}

void pacer_cycle_stopped(struct pacer_cycle *cycle, size_t scanned_bytes) { note_scanned(cycle, scanned_bytes); }

/* ---- the ratio ---- */

/* Had the threads neither assisted nor rested, they would have allocated more in the same time; had workers had what was
 * withheld, less. */
static double slowdown(const struct pacer_progress *from, const struct pacer_progress *to) {
  double taken_ns = (double)(to->assist_ns - from->assist_ns) + (double)(to->rested_ns - from->rested_ns),
         withheld_ns = (double)(to->withheld_ns - from->withheld_ns);
  if (to->mutator_ns <= from->mutator_ns) return taken_ns > withheld_ns ? SLOWDOWN_MAX : 1;
  double mutator_ns = (double)(to->mutator_ns - from->mutator_ns);
  return max_double(min_double(1 + (taken_ns - withheld_ns) / mutator_ns, SLOWDOWN_MAX), SLOWDOWN_MIN);
}

/* By workers, had they had all of their share. */
static size_t background(const struct pacer_progress *from, const struct pacer_progress *to) {
  return distance(from->background_bytes, to->background_bytes) + distance(from->withheld_bytes, to->withheld_bytes);
}

static void measure(struct pacer_cycle *cycle, const struct pacer_progress *from, const struct pacer_progress *to,
                    size_t fixed_bytes) {
  double allocated = (double)distance(from->live_bytes, to->live_bytes) * slowdown(from, to);
  double scanned = (double)background(from, to) + (double)fixed_bytes;
  cycle->ratio = max_double(cycle->ratio, allocated / scanned);
}

static void note_ratio(struct pacer_cycle *cycle) {
  for (int i = PACER_RECENT_CYCLES - 1; i > 0; i--) cycle->recent[i] = cycle->recent[i - 1];
  cycle->recent[0] = cycle->ratio;
  cycle->cycles++;
}

void pacer_cycle_end(struct pacer_cycle *cycle, const struct pacer_progress *progress, bool was_waited_for) {
  measure(cycle, &(struct pacer_progress){.live_bytes = cycle->begin_bytes}, progress, PACER_FIXED_BYTES);
  note_scanned(cycle, add_saturating(progress->background_bytes, progress->assist_bytes));
  if (!was_waited_for || cycle->ratio > ratio_planned(cycle)) note_ratio(cycle);
  cycle->assist_ratio = 0;
}

/* ---- while it marks ---- */

static size_t with_overrun(size_t bytes) { return add_saturating(bytes, bytes / OVERRUN_DIVISOR); }

/* The target that leaves the slope as it was when there is more to scan, within the overrun. */
static size_t extrapolated(const struct pacer_cycle *cycle, size_t scan_bytes) {
  size_t most = with_overrun(cycle->goal_bytes);
  if (cycle->goal_bytes <= cycle->begin_bytes || cycle->scan_bytes == 0) return most;
  double way = (double)(cycle->goal_bytes - cycle->begin_bytes) * ((double)scan_bytes / (double)cycle->scan_bytes);
  return way < (double)(most - cycle->begin_bytes) ? cycle->begin_bytes + (size_t)way : most;
}

static void expect_the_worst(struct pacer_cycle *cycle) {
  if (cycle->scan_bytes >= cycle->begin_bytes) return;
  cycle->target_bytes = max_size(cycle->target_bytes, extrapolated(cycle, cycle->begin_bytes));
  cycle->scan_bytes = cycle->begin_bytes;
}

/* A target that moved with the heap would be out of reach: it moves when it is passed, and then stands again.  Where
 * the heap was beyond the goal from the start, it is that much from there. */
static void move_target(struct pacer_cycle *cycle, size_t live_bytes) {
  expect_the_worst(cycle);
  size_t most = with_overrun(cycle->goal_bytes);
  bool in_time = cycle->begin_bytes < cycle->goal_bytes && live_bytes < most;
  cycle->target_bytes = in_time ? most : with_overrun(live_bytes);
}

static void draw_line(struct pacer_cycle *cycle, size_t live_bytes, size_t done_bytes) {
  size_t heap_rest = 1 + distance(cycle->begin_bytes, cycle->target_bytes) / REST_DIVISOR;
  size_t scan_rest = cycle->scan_bytes / REST_DIVISOR;
  if (done_bytes > add_saturating(cycle->scan_bytes, cycle->scan_bytes / NOISE_DIVISOR)) expect_the_worst(cycle);
  if (live_bytes >= add_saturating(cycle->target_bytes, heap_rest)) move_target(cycle, live_bytes);
  size_t scan = max_size(distance(done_bytes, cycle->scan_bytes), scan_rest);
  size_t heap = max_size(distance(live_bytes, cycle->target_bytes), heap_rest);
  cycle->assist_ratio = min_double((double)scan / (double)heap, PACER_ASSIST_RATIO_MAX);
}

void pacer_cycle_begin(struct pacer_cycle *cycle, size_t live_bytes, size_t goal_bytes) {
  cycle->begin_bytes = live_bytes;
  cycle->goal_bytes = cycle->target_bytes = goal_bytes;
  cycle->scan_bytes = cycle->cycles == 0 ? live_bytes : min_size(expected_scan(cycle), live_bytes);
  cycle->ratio = 0;
  cycle->quarter = (struct pacer_progress){.live_bytes = live_bytes};
  draw_line(cycle, live_bytes, 0);
}

void pacer_cycle_revise(struct pacer_cycle *cycle, const struct pacer_progress *progress) {
  size_t quarter_bytes = background(&cycle->quarter, progress);
  if (quarter_bytes > 0 && quarter_bytes >= cycle->scan_bytes / 4) {
    measure(cycle, &cycle->quarter, progress, PACER_FIXED_BYTES / 4);
    cycle->quarter = *progress;
  }
  draw_line(cycle, progress->live_bytes, add_saturating(progress->background_bytes, progress->assist_bytes));
}

size_t pacer_cycle_credit_most(const struct pacer_cycle *cycle) { return cycle->scan_bytes / CREDIT_DIVISOR; }

double pacer_cycle_assist_ratio(const struct pacer_cycle *cycle) { return cycle->assist_ratio; }

/* ---- who marks in the background ---- */

/* Shares are in such parts of a processor; and so much may stay idle for each processor. */
enum { SHARE_PARTS = 16, IDLE_DECAY = 4 };

/* What is owed, by the quarter: the line is drawn so that it is about 1. */
#define WITHHOLD_LEAST 0.75
#define WITHHOLD_MOST 2.0

static double in_parts(double cpus) { return (double)(unsigned)(cpus * SHARE_PARTS) / SHARE_PARTS; }

/* Half of what is idle is added; what was added goes again, bit by bit, while nothing is.  That also holds where the
 * workers crowd out the program's threads: both together fill the processors, and nothing is idle. */
static double adjusted_idle(double used, double cpus, double mutator_cpus) {
  double base = cpus * PACER_BACKGROUND_SHARE;
  double idle = cpus - base - used - mutator_cpus;
  if (idle > cpus / SHARE_PARTS) return in_parts(min_double(used + idle / 2, cpus - base));
  if (idle > 0) return used;
  return in_parts(max_double(used - max_double(used / IDLE_DECAY, 1.0 / SHARE_PARTS), 0));
}

/* A sixteenth of the quarter is left at least: a program that allocates no more must not stay in the cycle. */
static double adjusted_withheld(const struct pacer_share *share, double cpus, struct pacer_load load) {
  double base = cpus * PACER_BACKGROUND_SHARE, used = base - share->withheld_cpus;
  bool is_full = cpus - used - load.mutator_cpus <= cpus / SHARE_PARTS;
  if (!is_full || load.payers > cpus || load.is_hurried) return 0;
  if (load.owed_cpus < base * WITHHOLD_LEAST / 2 || load.owed_cpus > base * WITHHOLD_MOST)
    return base - min_double(used * 2, base);
  if (load.owed_cpus < base * WITHHOLD_LEAST) return share->withheld_cpus;
  return base - max_double(used / 2, base / 16);
}

void pacer_share_adjust(struct pacer_share *share, unsigned cpus, unsigned markers, struct pacer_load load) {
  double all = cpus == 0 ? 1 : cpus, most = markers == 0 ? 1 : markers;
  share->withheld_cpus = adjusted_withheld(share, all, load);
  share->idle_cpus = adjusted_idle(share->idle_cpus, all, load.mutator_cpus);
  double wanted = min_double(all * PACER_BACKGROUND_SHARE - share->withheld_cpus + share->idle_cpus, most);
  unsigned whole = (unsigned)wanted;
  bool is_whole = wanted <= whole;
  share->workers = is_whole ? whole : whole + 1;
  share->duty = is_whole ? 1 : wanted - whole;
}
