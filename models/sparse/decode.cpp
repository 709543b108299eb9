// Page-sparse decode attention over vLLM's paged KV cache on CPU: bounds of pages, choice of pages, attention, one call.
//
// What is computed is said in reference.py, and the tests hold the two together. Here it is said how: every (token, KV
// head) is a unit; its pages are scored, the best chosen, and attention over them is summed up in parts that are merged.
// Vectors are GCC's own (16 floats), so that the compiler picks the instructions of the machine it runs on.

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <type_traits>
#include <vector>

#include <omp.h>
#ifdef __AVX512BF16__
#include <immintrin.h>
#endif

namespace {

typedef float Floats __attribute__((vector_size(64)));
typedef int32_t Ints __attribute__((vector_size(64)));
typedef uint32_t Words __attribute__((vector_size(64)));
typedef uint16_t Shorts __attribute__((vector_size(32)));
typedef float Floats8 __attribute__((vector_size(32)));
typedef float Floats4 __attribute__((vector_size(16)));

constexpr int LANES = 16;
constexpr int MOST_PAGE_TOKENS = 128;
constexpr int MOST_HEADS = 8;  // query heads that one pass over a page serves
constexpr int MOST_DIM = 256;  // of a head: what lies on the stack
constexpr int PAGES_AHEAD = 8;  // whose bounds are fetched while one is scored
constexpr int LINE_BYTES = 64;
constexpr int PARTS_PER_THREAD = 4;  // of the work of one call, so that threads end together
constexpr float NOTHING = -std::numeric_limits<float>::infinity();

struct BFloat16 { uint16_t bits; };
struct Float16 { _Float16 value; };

inline Floats load(const float* p) { Floats v; std::memcpy(&v, p, sizeof v); return v; }
inline void store(float* p, Floats v) { std::memcpy(p, &v, sizeof v); }
inline Floats load(const BFloat16* p) {
  Shorts h;
  std::memcpy(&h, p, sizeof h);
  return (Floats)(__builtin_convertvector(h, Words) << 16);
}
inline Floats load(const Float16* p) {
  Floats v;
  for (int i = 0; i < LANES; ++i) v[i] = (float)p[i].value;
  return v;
}
inline float number(float v) { return v; }
inline float number(Float16 v) { return (float)v.value; }
inline float number(BFloat16 v) {
  const uint32_t word = (uint32_t)v.bits << 16;
  float f;
  std::memcpy(&f, &word, sizeof f);
  return f;
}
inline void put(float* p, float v) { *p = v; }
inline void put(Float16* p, float v) { p->value = (_Float16)v; }
inline void put(BFloat16* p, float v) {  // to nearest, ties to even; the attention of finite values is finite
  uint32_t word;
  std::memcpy(&word, &v, sizeof word);
  p->bits = (uint16_t)((word + 0x7FFF + ((word >> 16) & 1)) >> 16);
}

inline void put(float* p, Floats v) { store(p, v); }
inline void put(BFloat16* p, Floats v) {
  const Words w = (Words)v;
  const Shorts h = __builtin_convertvector((w + 0x7FFF + ((w >> 16) & 1)) >> 16, Shorts);
  std::memcpy(p, &h, sizeof h);
}

inline float sum(Floats v) {
  const Floats8 a = __builtin_shufflevector(v, v, 0, 1, 2, 3, 4, 5, 6, 7) +
                    __builtin_shufflevector(v, v, 8, 9, 10, 11, 12, 13, 14, 15);
  const Floats4 b = __builtin_shufflevector(a, a, 0, 1, 2, 3) + __builtin_shufflevector(a, a, 4, 5, 6, 7);
  return (b[0] + b[2]) + (b[1] + b[3]);
}
inline float highest(const float* p, int n) {
  Floats best = load(p);
  for (int i = LANES; i < n; i += LANES) {
    const Floats v = load(p + i);
    best = v > best ? v : best;
  }
  Floats8 a = __builtin_shufflevector(best, best, 0, 1, 2, 3, 4, 5, 6, 7);
  const Floats8 b = __builtin_shufflevector(best, best, 8, 9, 10, 11, 12, 13, 14, 15);
  a = a > b ? a : b;
  Floats4 c = __builtin_shufflevector(a, a, 0, 1, 2, 3);
  const Floats4 d = __builtin_shufflevector(a, a, 4, 5, 6, 7);
  c = c > d ? c : d;
  return std::max(std::max(c[0], c[1]), std::max(c[2], c[3]));
}

// e^x for x <= 0: 2^n times the Taylor series of 2^f, |f| <= 1/2, whose first term left out is below 2e-7.
inline Floats exponential(Floats x) {
  const Floats low = Floats{} - 87.0f;
  x = x > low ? x : low;
  const Floats z = x * 1.44269504088896341f;
  const Ints n = __builtin_convertvector(z - 0.5f, Ints);
  const Floats f = (z - __builtin_convertvector(n, Floats)) * 0.69314718055994531f;
  Floats p = f * (1.0f / 720) + 1.0f / 120;
  p = p * f + 1.0f / 24;
  p = p * f + 1.0f / 6;
  p = p * f + 0.5f;
  p = p * f + 1.0f;
  p = p * f + 1.0f;
  return p * (Floats)((n + 127) << 23);
}

// Two bfloat16 in each word, of which the first lies in the lower half.
inline Words pairs(const BFloat16* p) { Words w; std::memcpy(&w, p, sizeof w); return w; }
inline Words pair(const BFloat16* p) { uint32_t w; std::memcpy(&w, p, sizeof w); return Words{} + w; }
inline Words lower(Words w) { return w & 0xFFFFu; }
inline Floats add_products(Floats sum, Words a, Words b) {  // sum + a.first * b.first + a.second * b.second
#ifdef __AVX512BF16__
  return (Floats)_mm512_dpbf16_ps((__m512)sum, (__m512bh)a, (__m512bh)b);
#else
  return sum + (Floats)(a << 16) * (Floats)(b << 16) + (Floats)(a & 0xFFFF0000u) * (Floats)(b & 0xFFFF0000u);
#endif
}

inline void fetch(const void* from, int64_t bytes) {
  for (int64_t i = 0; i < bytes; i += LINE_BYTES) __builtin_prefetch((const char*)from + i, 0, 2);
}

// A query's positive and negative part against bounds of pages: (2 * dim) numbers each.
template <class T>
struct Halves {
  using Half = float;
  template <int G>
  static void dot(const float* halves, const T* bounds, int width, Floats* out) {
    for (int g = 0; g < G; ++g) out[g] = Floats{};
    for (int d = 0; d < width; d += LANES) {
      const Floats v = load(bounds + d);
      for (int g = 0; g < G; ++g) out[g] += load(halves + g * width + d) * v;
    }
  }
};
template <>
struct Halves<BFloat16> {
  using Half = BFloat16;
  template <int G>
  static void dot(const BFloat16* halves, const BFloat16* bounds, int width, Floats* out) {
    for (int g = 0; g < G; ++g) out[g] = Floats{};
    for (int d = 0; d < width; d += 2 * LANES) {
      const Words v = pairs(bounds + d);
      for (int g = 0; g < G; ++g) out[g] = add_products(out[g], pairs(halves + g * width + d), v);
    }
  }
};

// Where vLLM's kernels put the keys and values of a block, and what of them meets a query.
template <class T>
struct Plain {  // keys [dim, block], values [block, dim]
  using Element = T;
  using Weight = float;
  template <int G>
  static void dot(const T* keys, int64_t block, int at, int dim, const float* q, Floats* out) {
    Floats other[G];  // two sums each: one addition need not wait for the last
    for (int g = 0; g < G; ++g) out[g] = other[g] = Floats{};
    for (int d = 0; d < dim; d += 2) {
      const Floats k = load(keys + d * block + at), next = load(keys + (d + 1) * block + at);
      for (int g = 0; g < G; ++g) {
        out[g] += q[g * dim + d] * k;
        other[g] += q[g * dim + d + 1] * next;
      }
    }
    for (int g = 0; g < G; ++g) out[g] += other[g];
  }
  template <int G>
  static void mix(const T* values, int64_t, int at, int valid, int dim, int lane, const float* p, int stride, Floats* out) {
    for (int t = 0; t < valid; ++t) {
      const Floats v = load(values + (int64_t)(at + t) * dim + lane);
      for (int g = 0; g < G; ++g) out[g] += p[g * stride + t] * v;
    }
  }
};

struct Tiles {  // for AMX: keys [block/16, dim/2, 16 tokens, 2 dims], values [dim/16, block/2, 16 dims, 2 tokens]
  using Element = BFloat16;
  using Weight = BFloat16;
  template <int G>
  static void dot(const BFloat16* keys, int64_t, int at, int dim, const BFloat16* q, Floats* out) {
    const BFloat16* k = keys + (int64_t)at * dim;
    Floats other[G];
    for (int g = 0; g < G; ++g) out[g] = other[g] = Floats{};
    for (int d = 0; d < dim; d += 4, k += 4 * LANES) {
      const Words w = pairs(k), next = pairs(k + 2 * LANES);
      for (int g = 0; g < G; ++g) {
        out[g] = add_products(out[g], pair(q + g * dim + d), w);
        other[g] = add_products(other[g], pair(q + g * dim + d + 2), next);
      }
    }
    for (int g = 0; g < G; ++g) out[g] += other[g];
  }
  template <int G>
  static void mix(const BFloat16* values, int64_t block, int at, int valid, int, int lane, const BFloat16* p, int stride,
                  Floats* out) {
    const BFloat16* v = values + lane * block + (int64_t)at * LANES;
    Floats other[G];
    for (int g = 0; g < G; ++g) other[g] = Floats{};
    int t = 0;
    for (; t + 3 < valid; t += 4, v += 4 * LANES) {
      const Words w = pairs(v), next = pairs(v + 2 * LANES);
      for (int g = 0; g < G; ++g) {
        out[g] = add_products(out[g], pair(p + g * stride + t), w);
        other[g] = add_products(other[g], pair(p + g * stride + t + 2), next);
      }
    }
    for (; t < valid; t += 2, v += 2 * LANES) {  // a token that is not written yet is not read into a sum
      const Words w = t + 1 < valid ? pairs(v) : lower(pairs(v));
      for (int g = 0; g < G; ++g) out[g] = add_products(out[g], pair(p + g * stride + t), w);
    }
    for (int g = 0; g < G; ++g) out[g] += other[g];
  }
};

}  // namespace

extern "C" {

struct Step {  // mirrors native.Step
  const void* query;       // [tokens, heads, dim]
  void* output;            // the same
  const void* cache;       // [blocks, kv_heads, keys and values of a block]
  const void* bounds;      // [pages, kv_heads, 2 * dim]: highest and lowest value of the keys of a page
  const int32_t* table;    // [requests, blocks]
  const int32_t* tokens;   // [count] where in query and output
  const int32_t* requests; // [count] which row of the table
  const int32_t* lengths;  // [count] how many tokens of the context it sees
  int32_t* chosen;         // [count, kv_heads, keep] written: pages read, ascending, -1 after the last
  int64_t query_stride, output_stride, table_stride, block_stride, head_stride;
  int32_t count, kv_heads, group, dim, block, page, keep, sink, recent, layout, threads;
  float scale;
};

struct Update {  // mirrors native.Update
  const void* key;         // [tokens, kv_heads, dim]
  const int64_t* slots;    // [tokens], negative: no token
  void* bounds;
  int64_t key_stride;
  int32_t tokens, kv_heads, dim, page, layout, threads;
};

}

namespace {

struct Part {
  float highest[MOST_HEADS], total[MOST_HEADS];
};

template <class L>
struct Decode {
  using T = typename L::Element;
  const Step& s;
  const T* query;
  const T* cache;
  const T* bounds;
  T* output;
  int units, splits, most_pages;
  std::vector<float>& scores;  // [units, most_pages]
  std::vector<float>& sums;    // [units, splits, group, dim]
  std::vector<Part>& parts;    // [units, splits, groups of heads]
  int passes;

  int pages_of(int token) const { return (s.lengths[token] + s.page - 1) / s.page; }

  const T* bounds_of(int token, int head, int page) const {
    const int64_t per_block = s.block / s.page;
    const int64_t block = s.table[s.requests[token] * s.table_stride + page / per_block];
    return bounds + ((block * per_block + page % per_block) * s.kv_heads + head) * 2 * s.dim;
  }

  template <int G>
  void score(int unit, int split, int first_head) {
    const int token = unit / s.kv_heads, head = unit % s.kv_heads, pages = pages_of(token);
    if (pages <= s.keep) return;
    const int middle = pages - s.sink - s.recent;
    const int from = s.sink + (int64_t)middle * split / splits, to = s.sink + (int64_t)middle * (split + 1) / splits;
    using Half = typename Halves<T>::Half;
    alignas(LINE_BYTES) Half halves[G * 2 * MOST_DIM];
    for (int g = 0; g < G; ++g) {
      const T* q = query + s.tokens[token] * s.query_stride + (int64_t)(head * s.group + first_head + g) * s.dim;
      for (int d = 0; d < s.dim; ++d) {
        const float v = number(q[d]);
        put(halves + g * 2 * s.dim + d, std::max(v, 0.0f));
        put(halves + g * 2 * s.dim + s.dim + d, std::min(v, 0.0f));
      }
    }
    float* into = scores.data() + (int64_t)unit * most_pages;
    for (int page = from; page < to; ++page) {
      if (page + PAGES_AHEAD < to) fetch(bounds_of(token, head, page + PAGES_AHEAD), 2 * s.dim * sizeof(T));
      Floats found[G];
      Halves<T>::template dot<G>(halves, bounds_of(token, head, page), 2 * s.dim, found);
      float best = first_head ? into[page] : NOTHING;
      for (int g = 0; g < G; ++g) {
        const float bound = sum(found[g]);
        if (!(bound <= best)) best = bound;
      }
      into[page] = best == best ? best : std::numeric_limits<float>::max();  // a NaN is not skipped, and orders nothing
    }
  }

  void choose(int unit) {
    const int token = unit / s.kv_heads, pages = pages_of(token);
    int32_t* chosen = s.chosen + (int64_t)unit * s.keep;
    const int kept = std::min(pages, s.keep);
    if (pages <= s.keep) {
      for (int i = 0; i < kept; ++i) chosen[i] = i;
    } else {
      const float* score = scores.data() + (int64_t)unit * most_pages;
      const int free = s.keep - s.sink - s.recent;
      static thread_local std::vector<int32_t> middle;
      middle.resize(pages - s.sink - s.recent);
      for (size_t i = 0; i < middle.size(); ++i) middle[i] = s.sink + (int32_t)i;
      std::nth_element(middle.begin(), middle.begin() + free, middle.end(), [score](int32_t a, int32_t b) {
        return score[a] > score[b] || (score[a] == score[b] && a < b);
      });
      std::sort(middle.begin(), middle.begin() + free);
      for (int i = 0; i < s.sink; ++i) chosen[i] = i;
      std::copy(middle.begin(), middle.begin() + free, chosen + s.sink);
      for (int i = 0; i < s.recent; ++i) chosen[s.sink + free + i] = pages - s.recent + i;
    }
    for (int i = kept; i < s.keep; ++i) chosen[i] = -1;
  }

  template <int G>
  void attend(int unit, int split, int first_head, int pass) {
    const int token = unit / s.kv_heads, head = unit % s.kv_heads, kept = std::min(pages_of(token), s.keep);
    const int from = (int64_t)kept * split / splits, to = (int64_t)kept * (split + 1) / splits;
    const int32_t* chosen = s.chosen + (int64_t)unit * s.keep;
    const int32_t* row = s.table + s.requests[token] * s.table_stride;
    const int per_block = s.block / s.page;
    using Weight = typename L::Weight;
    Weight q[G * MOST_DIM];
    for (int g = 0; g < G; ++g) {
      const T* source = query + s.tokens[token] * s.query_stride + (int64_t)(head * s.group + first_head + g) * s.dim;
      for (int d = 0; d < s.dim; ++d) put(q + g * s.dim + d, number(source[d]));
    }
    Part& part = parts[((int64_t)unit * splits + split) * passes + pass];
    float* mixed = sums.data() + (((int64_t)unit * splits + split) * s.group + first_head) * s.dim;
    for (int g = 0; g < G; ++g) part.highest[g] = NOTHING, part.total[g] = 0.0f;
    std::fill(mixed, mixed + G * s.dim, 0.0f);
    float p[G * MOST_PAGE_TOKENS];
    Weight weights[G * MOST_PAGE_TOKENS];
    for (int i = from; i < to; ++i) {
      const T* keys = cache + row[chosen[i] / per_block] * s.block_stride + head * s.head_stride;
      if (i + 1 < to && s.page == s.block) {
        fetch(cache + row[chosen[i + 1]] * s.block_stride + head * s.head_stride, 2 * s.page * s.dim * sizeof(T));
      }
      const T* values = keys + (int64_t)s.block * s.dim;
      const int at = chosen[i] % per_block * s.page, valid = std::min(s.page, s.lengths[token] - chosen[i] * s.page);
      for (int t = 0; t < s.page; t += LANES) {
        Floats logits[G];
        L::template dot<G>(keys, s.block, at + t, s.dim, q, logits);
        for (int g = 0; g < G; ++g) store(p + g * s.page + t, logits[g] * s.scale);
      }
      for (int g = 0; g < G; ++g) {
        float* mine = p + g * s.page;
        for (int t = valid; t < s.page; ++t) mine[t] = NOTHING;
        const float top = highest(mine, s.page);
        if (top > part.highest[g]) {
          const float shrink = std::exp(part.highest[g] - top);
          part.highest[g] = top;
          part.total[g] *= shrink;
          for (int d = 0; d < s.dim; d += LANES) store(mixed + g * s.dim + d, load(mixed + g * s.dim + d) * shrink);
        }
        for (int t = 0; t < s.page; t += LANES) store(mine + t, exponential(load(mine + t) - part.highest[g]));
        for (int t = valid; t < s.page; ++t) mine[t] = 0.0f;
        Floats total = Floats{};
        for (int t = 0; t < s.page; t += LANES) total += load(mine + t);
        part.total[g] += sum(total);
        for (int t = 0; t < s.page; t += LANES) put(weights + g * s.page + t, load(mine + t));
      }
      for (int lane = 0; lane < s.dim; lane += LANES) {
        Floats out[G];
        for (int g = 0; g < G; ++g) out[g] = load(mixed + g * s.dim + lane);
        L::template mix<G>(values, s.block, at, valid, s.dim, lane, weights, s.page, out);
        for (int g = 0; g < G; ++g) store(mixed + g * s.dim + lane, out[g]);
      }
    }
  }

  void merge(int unit) {
    const int token = unit / s.kv_heads, head = unit % s.kv_heads;
    for (int h = 0; h < s.group; ++h) {
      const int pass = h / MOST_HEADS, g = h % MOST_HEADS;
      float top = NOTHING, total = 0.0f, weights[64];
      for (int i = 0; i < splits; ++i) top = std::max(top, part_of(unit, i, pass).highest[g]);
      for (int i = 0; i < splits; ++i) {
        const Part& part = part_of(unit, i, pass);
        weights[i] = part.total[g] > 0.0f ? std::exp(part.highest[g] - top) : 0.0f;
        total += weights[i] * part.total[g];
      }
      T* out = output + s.tokens[token] * s.output_stride + (int64_t)(head * s.group + h) * s.dim;
      for (int d = 0; d < s.dim; ++d) {
        float value = 0.0f;
        for (int i = 0; i < splits; ++i)
          value += weights[i] * sums[(((int64_t)unit * splits + i) * s.group + h) * s.dim + d];
        put(out + d, value / total);
      }
    }
  }

  const Part& part_of(int unit, int split, int pass) const {
    return parts[((int64_t)unit * splits + split) * passes + pass];
  }

  template <class F>
  void by_heads(F&& call) {  // call(number of heads as a constant, first head, pass)
    for (int pass = 0; pass < passes; ++pass) {
      const int first = pass * MOST_HEADS;
      switch (std::min(MOST_HEADS, s.group - first)) {
        case 1: call(std::integral_constant<int, 1>(), first, pass); break;
        case 2: call(std::integral_constant<int, 2>(), first, pass); break;
        case 3: call(std::integral_constant<int, 3>(), first, pass); break;
        case 4: call(std::integral_constant<int, 4>(), first, pass); break;
        case 5: call(std::integral_constant<int, 5>(), first, pass); break;
        case 6: call(std::integral_constant<int, 6>(), first, pass); break;
        case 7: call(std::integral_constant<int, 7>(), first, pass); break;
        default: call(std::integral_constant<int, 8>(), first, pass);
      }
    }
  }

  void run() {
#pragma omp parallel num_threads(s.threads)
    {
#pragma omp for schedule(dynamic)
      for (int i = 0; i < units * splits; ++i)
        by_heads([&](auto heads, int first, int) { score<heads.value>(i / splits, i % splits, first); });
#pragma omp for schedule(dynamic)
      for (int i = 0; i < units; ++i) choose(i);
#pragma omp for schedule(dynamic)
      for (int i = 0; i < units * splits; ++i)
        by_heads([&](auto heads, int first, int pass) { attend<heads.value>(i / splits, i % splits, first, pass); });
#pragma omp for schedule(static)
      for (int i = 0; i < units; ++i) merge(i);
    }
  }
};

template <class L>
void decode(const Step& s) {
  using T = typename L::Element;
  static thread_local std::vector<float> scores, sums;
  static thread_local std::vector<Part> parts;
  int most_pages = 0;
  for (int i = 0; i < s.count; ++i) most_pages = std::max(most_pages, (s.lengths[i] + s.page - 1) / s.page);
  const int units = s.count * s.kv_heads, passes = (s.group + MOST_HEADS - 1) / MOST_HEADS;
  const int wanted = s.threads == 1 ? 1 : (PARTS_PER_THREAD * s.threads + units - 1) / units;
  const int splits = std::clamp(wanted, 1, std::min(64, std::min(most_pages, s.keep)));
  scores.resize((size_t)units * most_pages);
  sums.resize((size_t)units * splits * s.group * s.dim);
  parts.resize((size_t)units * splits * passes);
  Decode<L>{s, (const T*)s.query, (const T*)s.cache, (const T*)s.bounds, (T*)s.output, units, splits, most_pages,
            scores, sums, parts, passes}.run();
}

template <class T>
void widen(const Update& u) {
  T* bounds = (T*)u.bounds;
  const T* keys = (const T*)u.key;
  const T highest = [] { T v; put(&v, NOTHING); return v; }();
  const T lowest = [] { T v; put(&v, -NOTHING); return v; }();
#pragma omp parallel for num_threads(u.tokens < 64 ? 1 : u.threads)
  for (int head = 0; head < u.kv_heads; ++head) {
    for (int t = 0; t < u.tokens; ++t) {  // a page is filled from its first token on: what it held before is forgotten
      if (u.slots[t] < 0 || u.slots[t] % u.page) continue;
      T* b = bounds + (u.slots[t] / u.page * u.kv_heads + head) * 2 * u.dim;
      std::fill(b, b + u.dim, highest);
      std::fill(b + u.dim, b + 2 * u.dim, lowest);
    }
    for (int t = 0; t < u.tokens; ++t) {
      if (u.slots[t] < 0) continue;
      T* b = bounds + (u.slots[t] / u.page * u.kv_heads + head) * 2 * u.dim;
      const T* k = keys + t * u.key_stride + (int64_t)head * u.dim;
      for (int d = 0; d < u.dim; ++d) {
        const float v = number(k[d]);
        if (!(v <= number(b[d]))) b[d] = k[d];
        if (!(v >= number(b[u.dim + d]))) b[u.dim + d] = k[d];
      }
    }
  }
}

}  // namespace

extern "C" void pointsman_decode(const Step* s) {
  switch (s->layout) {
    case 0: return decode<Tiles>(*s);
    case 1: return decode<Plain<BFloat16>>(*s);
    case 2: return decode<Plain<Float16>>(*s);
    default: return decode<Plain<float>>(*s);
  }
}

extern "C" void pointsman_widen(const Update* u) {
  switch (u->layout) {
    case 0:
    case 1: return widen<BFloat16>(*u);
    case 2: return widen<Float16>(*u);
    default: return widen<float>(*u);
  }
}
