#include "gc/brief.h"

#include "base/bits.h"

#define GUESS_NS_PER_BYTE 0.7 /* until something was marked: objects of 32 bytes, roughly */

/* What marking beside the program takes longer, for each byte: caches are shared with it, and much is read twice. */
#define BESIDE_FACTOR 1.5

/* Little enough, and no quotient is too large for a size: programs may have that trap, as ECL does. */
#define SURVIVAL_LEAST (1.0 / 1024)

enum {
  TELLING_BYTES = 256 << 10, /* to mark less says little: starting and stopping is most of it */
  LONGER = 3,
  LONGEST = 5,
  DEAR = 10,
  AWAITED = 20,
  FORGETTING = 16,       /* one part in so many, with each stop */
  FORGETTING_FAULTS = 64 /* to try once costs several stops */
};

void brief_init(struct brief *brief, uint64_t limit_ns) {
  *brief = (struct brief){.limit_ns = (double)limit_ns, .delay_ns = (double)limit_ns, .survival = 1};
}

static double mean(double a, double b) { return (a + b) / 2; }

void brief_left(struct brief *brief, size_t live_bytes, size_t before_bytes) {
  double grown = (double)live_bytes - brief->live_bytes, allocated = (double)before_bytes - brief->live_bytes;
  double survived = grown > 0 && allocated > 0 ? min_double(grown / allocated, 1) : 0;
  brief->survival = max_double(max_double(survived, brief->survival / 2), SURVIVAL_LEAST);
  brief->live_bytes = (double)live_bytes;
}

void brief_marked(struct brief *brief, size_t bytes, uint64_t ns, bool beside) {
  if (bytes < TELLING_BYTES) return;
  double ns_per_byte = (double)ns / (double)bytes / (beside ? BESIDE_FACTOR : 1);
  brief->ns_per_byte = brief->ns_per_byte == 0 ? ns_per_byte : mean(brief->ns_per_byte, ns_per_byte);
}

void brief_settled(struct brief *brief, uint64_t ns) {
  brief->settle_ns = (double)ns;
  brief->delay_ns -= brief->delay_ns / FORGETTING;
  brief->held_ns -= brief->held_ns / FORGETTING;
  brief->faults_ns -= brief->faults_ns / FORGETTING_FAULTS;
}

void brief_delayed(struct brief *brief, uint64_t ns, uint64_t held_ns) {
  brief->delay_ns = mean(brief->delay_ns, (double)ns);
  brief->held_ns = mean(brief->held_ns, (double)held_ns);
}

void brief_faulted(struct brief *brief, uint64_t ns) {
  double faults_ns = min_double((double)ns, DEAR * brief->limit_ns);
  brief->faults_ns = max_double(faults_ns, mean(brief->faults_ns, faults_ns));
}

static double longest_ns(const struct brief *brief) {
  double limit_ns = brief->limit_ns;
  double most_ns = max_double(LONGER * limit_ns, min_double(brief->held_ns, LONGEST * limit_ns));
  return max_double(max_double(limit_ns, brief->faults_ns), min_double(LONGER * brief->delay_ns, most_ns));
}

static size_t most_bytes_in(const struct brief *brief, double stop_ns, unsigned markers) {
  double left_ns = stop_ns - brief->settle_ns;
  if (left_ns <= 0) return 0;
  double ns_per_byte = brief->ns_per_byte > 0 ? brief->ns_per_byte : GUESS_NS_PER_BYTE;
  double most = left_ns / ns_per_byte * (markers > 1 ? markers : 1);
  if (most > brief->live_bytes) most = brief->live_bytes + (most - brief->live_bytes) / brief->survival;
  return (size_t)most;
}

size_t brief_most_bytes(const struct brief *brief, unsigned markers) {
  return most_bytes_in(brief, longest_ns(brief), markers);
}

size_t brief_most_awaited_bytes(const struct brief *brief, unsigned markers) {
  return most_bytes_in(brief, AWAITED * brief->limit_ns, markers);
}
