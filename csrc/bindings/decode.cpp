// Searches, and what they ask of a model.
#include <pybind11/functional.h>
#include <pybind11/stl.h>

#include "bindings/bindings.h"
#include "bindings/gil.h"
#include "decode/ensemble_steps.h"
#include "decode/errors.h"
#include "decode/generation.h"
#include "decode/replayed_steps.h"

namespace py = pybind11;
using namespace py::literals;

namespace dragoman {

namespace {

// A Python object with `add(entries)` and `next(ids, parents)`.
class PythonSteps : public Steps {
 public:
  explicit PythonSteps(py::object steps) : steps_(std::move(steps)) {}
  ~PythonSteps() override {
    const py::gil_scoped_acquire gil;
    steps_ = py::object();
  }

  Tensor add(const std::vector<Entry>& entries) override {
    const py::gil_scoped_acquire gil;
    return steps_.attr("add")(entries).cast<Tensor>();
  }

  Tensor next(const std::vector<int32_t>& ids, const std::vector<int64_t>& parents) override {
    const py::gil_scoped_acquire gil;
    return steps_.attr("next")(ids, parents).cast<Tensor>();
  }

  void keep_attention(bool kept) override {
    const py::gil_scoped_acquire gil;
    steps_.attr("keep_attention")(kept);
  }

  std::vector<std::vector<float>> attention() override {
    const py::gil_scoped_acquire gil;
    return steps_.attr("attention")().cast<std::vector<std::vector<float>>>();
  }

  void narrow(const std::vector<int32_t>&) override {}  // all logits are always there

 private:
  py::object steps_;
};

}  // namespace

void bind_decode(py::module_& m) {
  py::register_exception_translator([](std::exception_ptr pointer) {
    try {
      if (pointer) std::rethrow_exception(pointer);
    } catch (const FloatingPointError& error) {
      py::set_error(PyExc_FloatingPointError, error.what());
    }
  });

  py::class_<Entry>(
      m, "Entry", "What a request brings: source ids or a memory, and the ids that the decoder reads first.")
      .def(py::init<std::vector<int32_t>, std::vector<int32_t>>(), "source"_a, "prefix"_a)
      .def_readonly("source", &Entry::source)
      .def_readonly("memory", &Entry::memory)
      .def_readonly("prefix", &Entry::prefix)
      .def_readonly("place", &Entry::place);
  py::class_<Steps, std::shared_ptr<Steps>>(m, "Steps", "What a search asks of a model: rows of logits.")
      .def("add", &Steps::add, "entries"_a, py::call_guard<ReleaseGil>())
      .def("next", &Steps::next, "ids"_a, "parents"_a, py::call_guard<ReleaseGil>())
      .def("keep_attention", &Steps::keep_attention, "kept"_a, py::call_guard<ReleaseGil>())
      .def("attention", &Steps::attention, py::call_guard<ReleaseGil>())
      .def("narrow", &Steps::narrow, "tokens"_a, py::call_guard<ReleaseGil>());
  py::class_<StepPrograms, std::shared_ptr<StepPrograms>>(
      m, "StepPrograms", "A model's recorded steps, for sources and texts up to some length.")
      .def(py::init([](std::shared_ptr<Program> first, std::shared_ptr<Program> step, bool reads_source,
                       int64_t longest_source, int64_t longest, bool keeps_attention,
                       const std::string& cache_dtype, std::vector<int32_t> tokens, int64_t vocabulary) {
             return std::make_shared<StepPrograms>(
                 std::move(first), std::move(step), reads_source, longest_source, longest, keeps_attention,
                 parse_activation_dtype("KVCache", cache_dtype), std::move(tokens), vocabulary);
           }),
           "first"_a, "step"_a, "reads_source"_a, "longest_source"_a, "longest"_a, "keeps_attention"_a,
           "cache_dtype"_a, "tokens"_a, "vocabulary"_a)
      .def_readonly("longest_source", &StepPrograms::longest_source)
      .def_readonly("longest", &StepPrograms::longest);
  // The function is called, and ends, with the GIL: pybind11 sees to both.
  py::class_<ReplayedSteps, Steps, std::shared_ptr<ReplayedSteps>>(m, "ReplayedSteps",
                                                                   "Steps of recorded Programs and a cache.")
      .def(py::init(
               [](std::shared_ptr<StepPrograms> programs,
                  std::function<std::shared_ptr<StepPrograms>(int64_t, int64_t, bool, std::vector<int32_t>)>
                      renew) {
                 return std::make_shared<ReplayedSteps>(std::move(programs), std::move(renew));
               }),
           "programs"_a, "renew"_a);
  py::class_<PythonSteps, Steps, std::shared_ptr<PythonSteps>>(m, "PythonSteps",
                                                               "Steps that a Python object makes.")
      .def(py::init<py::object>(), "steps"_a);
  py::class_<EnsembleSteps, Steps, std::shared_ptr<EnsembleSteps>>(m, "EnsembleSteps",
                                                                   "Several models that decode as one.")
      .def(py::init<std::vector<std::shared_ptr<Steps>>>(), "models"_a);

  py::class_<SearchOptions>(m, "SearchOptions", "What a request asks of a search.")
      .def(py::init([](int64_t beam, int64_t count, int64_t limit, int64_t min_length, double length_penalty,
                       double coverage_penalty, const std::string& like, const std::string& early_stopping,
                       double temperature, int64_t top_k, double top_p, double min_p, uint64_t seed,
                       uint64_t place, std::vector<int32_t> prefix, std::optional<int32_t> forced_last,
                       std::vector<int32_t> unwritten, std::vector<int32_t> suppress,
                       std::vector<int32_t> begin_suppress, std::vector<int32_t> allowed,
                       std::vector<std::vector<int32_t>> bad_words, int64_t no_repeat_ngram,
                       double repetition_penalty, bool renormalize,
                       std::vector<std::vector<int32_t>> constraints) {
             return SearchOptions{.beam = beam,
                                  .count = count,
                                  .limit = limit,
                                  .min_length = min_length,
                                  .length_penalty = length_penalty,
                                  .coverage_penalty = coverage_penalty,
                                  .like = parse_like(like),
                                  .early_stopping = parse_early_stopping(early_stopping),
                                  .temperature = temperature,
                                  .top_k = top_k,
                                  .top_p = top_p,
                                  .min_p = min_p,
                                  .seed = seed,
                                  .place = place,
                                  .prefix = std::move(prefix),
                                  .forced_last = forced_last,
                                  .unwritten = std::move(unwritten),
                                  .suppress = std::move(suppress),
                                  .begin_suppress = std::move(begin_suppress),
                                  .allowed = std::move(allowed),
                                  .bad_words = std::move(bad_words),
                                  .no_repeat_ngram = no_repeat_ngram,
                                  .repetition_penalty = repetition_penalty,
                                  .renormalize = renormalize,
                                  .constraints = std::move(constraints)};
           }),
           py::kw_only(), "beam"_a, "count"_a, "limit"_a, "min_length"_a, "length_penalty"_a,
           "coverage_penalty"_a, "like"_a, "early_stopping"_a, "temperature"_a, "top_k"_a, "top_p"_a,
           "min_p"_a, "seed"_a, "place"_a, "prefix"_a, "forced_last"_a, "unwritten"_a, "suppress"_a,
           "begin_suppress"_a, "allowed"_a, "bad_words"_a, "no_repeat_ngram"_a, "repetition_penalty"_a,
           "renormalize"_a, "constraints"_a);

  py::class_<Hypothesis>(m, "Hypothesis", "One output.")
      .def_readonly("ids", &Hypothesis::ids)
      .def_readonly("score", &Hypothesis::score)
      .def_readonly("sum_logprob", &Hypothesis::sum_logprob)
      .def_readonly("length", &Hypothesis::length)
      .def_readonly("token_logprobs", &Hypothesis::token_logprobs);

  py::class_<Generation>(m, "Generation", "Many requests side by side, stepped together.")
      .def(py::init([](std::shared_ptr<Steps> steps, int64_t vocabulary, std::vector<int32_t> ends) {
             return std::make_unique<Generation>(std::move(steps), Vocabulary{vocabulary, std::move(ends)});
           }),
           "steps"_a, "vocabulary"_a, "ends"_a)
      .def(
          "add",
          [](Generation& generation, std::vector<int32_t> source, std::vector<int32_t> prefix,
             const SearchOptions& options, std::optional<Tensor> memory) {
            return generation.add(
                {.source = std::move(source), .prefix = std::move(prefix), .memory = std::move(memory)},
                options);
          },
          "source"_a, "prefix"_a, "options"_a, "memory"_a = std::nullopt)
      .def("step", &Generation::step, py::call_guard<ReleaseGil>())
      .def("take", &Generation::take, "key"_a)
      .def("stable", &Generation::stable, "key"_a)
      .def("cancel", &Generation::cancel, "key"_a)
      .def_property_readonly("rows", &Generation::rows)
      .def_property_readonly("pending", &Generation::pending);

  m.def(
      "normalised_score",
      [](const std::string& like, double log_prob, int64_t length, double length_penalty) {
        return normalised_score(parse_like(like), log_prob, length, length_penalty);
      },
      "like"_a, "log_prob"_a, "length"_a, "length_penalty"_a);
}

}  // namespace dragoman
