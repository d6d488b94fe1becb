#include "core/program.h"

#include <algorithm>
#include <map>
#include <set>

namespace dragoman {

namespace {

thread_local Recorder* current_recorder = nullptr;

// Two tensors have the same slot if they are the same view of the same memory.
using TensorKey = std::tuple<const Storage*, int64_t, Shape, DType>;

TensorKey key_of(const Tensor& tensor) {
  return {tensor.storage().get(), tensor.byte_offset(), tensor.shape(), tensor.dtype()};
}

// Gives every tensor, Sequences and cache its slot. The recorded calls hold their tensors, so no memory is
// used twice.
class SlotTable {
 public:
  int64_t define(const Value& value) {
    const int64_t slot = num_slots_++;
    if (const auto* tensor = std::get_if<Tensor>(&value)) {
      tensors_[key_of(*tensor)] = slot;
      const Storage* storage = tensor->storage().get();
      if (!constants_.contains(storage)) recorded_.insert(storage);
    } else if (const auto* sequences = std::get_if<Sequences>(&value)) {
      sequences_.emplace_back(*sequences, slot);
    } else if (const auto* cache = std::get_if<std::shared_ptr<KVCache>>(&value)) {
      caches_[cache->get()] = slot;
    }
    return slot;
  }

  // -1 for a value that is neither an input nor a result.
  int64_t find(const Value& value) const {
    if (const auto* tensor = std::get_if<Tensor>(&value)) {
      const auto found = tensors_.find(key_of(*tensor));
      return found == tensors_.end() ? -1 : found->second;
    }
    if (const auto* sequences = std::get_if<Sequences>(&value)) {
      for (const auto& [known, slot] : sequences_) {
        if (known.is(*sequences)) return slot;
      }
    }
    if (const auto* cache = std::get_if<std::shared_ptr<KVCache>>(&value)) {
      const auto found = caches_.find(cache->get());
      return found == caches_.end() ? -1 : found->second;
    }
    return -1;
  }

  void check_constant(const OpCall& call, size_t index) {
    const Value& value = call.arguments[index];
    const std::string& name = call.op->argument_names[index];
    CHECK(!std::holds_alternative<std::shared_ptr<KVCache>>(value), "record: ", call.op->name, ": ", name,
          " must be an input of the Program");
    if (const auto* tensor = std::get_if<Tensor>(&value)) {
      CHECK(!recorded_.contains(tensor->storage().get()), "record: ", call.op->name, ": ", name,
            " must be an input or the result of an op, got a part of one that no op took");
      constants_.insert(tensor->storage().get());
    }
  }

  int64_t size() const { return num_slots_; }

 private:
  std::map<TensorKey, int64_t> tensors_;
  std::vector<std::pair<Sequences, int64_t>> sequences_;
  std::map<const KVCache*, int64_t> caches_;
  std::set<const Storage*> recorded_, constants_;  // memory of inputs and results; of constants
  int64_t num_slots_ = 0;
};

// Whether two constants are the same: of a tensor or Sequences the same memory, of others the same value.
bool same_constant(const Value& a, const Value& b) {
  if (a.index() != b.index()) return false;
  return std::visit(
      [&]<class T>(const T& value) {
        const T& other = std::get<T>(b);
        if constexpr (std::is_same_v<T, Tensor>) {
          return key_of(value) == key_of(other);
        } else if constexpr (std::is_same_v<T, Sequences>) {
          return value.is(other);
        } else {
          return value == other;
        }
      },
      a);
}

}  // namespace

Recorder::Recorder(bool frozen) : frozen_(frozen) {
  CHECK(current_recorder == nullptr, "record: this thread is recording a program already");
  current_recorder = this;
}

void Recorder::stop() {
  if (current_recorder == this) current_recorder = nullptr;
}

void check_not_recording(const char* what) {
  CHECK(current_recorder == nullptr, "record: ", what,
        " may not be made while a program is recorded: make it before and pass it as an input");
}

Recorder* Recorder::current() {
  return current_recorder;
}

void Recorder::append(const ErasedOp& op, std::vector<Value> arguments, std::vector<Value> results) {
  calls_.push_back({&op, std::move(arguments), std::move(results)});
}

Program Recorder::finish(const std::vector<Value>& inputs, const std::vector<Value>& outputs) {
  stop();
  Program program;
  SlotTable slots;
  for (const Value& input : inputs) {
    slots.define(input);
    program.input_kinds_.push_back(input.index());
  }

  for (const OpCall& call : calls_) {
    Program::Step step{call.op, {}, slots.size(), static_cast<int64_t>(call.results.size()), {}};
    for (size_t i = 0; i < call.arguments.size(); ++i) {
      const int64_t slot = slots.find(call.arguments[i]);
      if (slot < 0) slots.check_constant(call, i);
      step.arguments.push_back({slot, slot < 0 ? call.arguments[i] : Value()});
    }
    for (const Value& result : call.results) slots.define(result);
    program.steps_.push_back(std::move(step));
  }
  for (const Value& output : outputs) {
    program.outputs_.push_back(slots.find(output));
    CHECK(program.outputs_.back() >= 0, "record: output ", program.outputs_.size() - 1,
          " was made by none of the recorded ops");
  }
  program.num_slots_ = slots.size();

  // Liveness: in a walk backwards, the first use of a slot is its last one. Outputs live to the end.
  std::vector<bool> live(static_cast<size_t>(program.num_slots_), false);
  for (const int64_t slot : program.outputs_) live[slot] = true;
  for (auto step = program.steps_.rbegin(); step != program.steps_.rend(); ++step) {
    const auto end_of_life = [&](int64_t slot) {
      if (slot >= 0 && !live[slot]) {
        live[slot] = true;
        step->last_uses.push_back(slot);
      }
    };
    for (const Program::Argument& argument : step->arguments) end_of_life(argument.slot);
    for (int64_t i = 0; i < step->num_results; ++i) end_of_life(step->first_result + i);
  }
  return program;
}

std::vector<Value> Program::replay(const std::vector<Value>& inputs) const {
  CHECK(inputs.size() == input_kinds_.size(), "replay: expected ", input_kinds_.size(), " inputs, got ",
        inputs.size());
  for (size_t i = 0; i < inputs.size(); ++i) {
    CHECK_TYPE(inputs[i].index() == input_kinds_[i], "replay: input ", i,
               " must be of the kind that was recorded");
  }
  std::vector<Value> slots(inputs);
  slots.resize(static_cast<size_t>(num_slots_));
  std::vector<const Value*> arguments;
  for (const Step& step : steps_) {
    arguments.clear();
    for (const Argument& argument : step.arguments) {
      arguments.push_back(argument.slot < 0 ? &argument.constant : &slots[argument.slot]);
    }
    step.op->invoke(arguments.data(), slots.data() + step.first_result);
    for (const int64_t slot : step.last_uses) slots[slot] = Value();
  }
  std::vector<Value> outputs;
  for (const int64_t slot : outputs_) outputs.push_back(slots[slot]);
  return outputs;
}

void Program::check_same(const Program& other) const {
  for (size_t i = 0; i < std::min(steps_.size(), other.steps_.size()); ++i) {
    const Step &step = steps_[i], &step2 = other.steps_[i];
    CHECK(step.op == step2.op, "record: the function must call the same ops whatever its inputs, got ",
          step.op->name, " and ", step2.op->name, " as call ", i);
    for (size_t j = 0; j < step.arguments.size(); ++j) {
      const Argument &argument = step.arguments[j], &argument2 = step2.arguments[j];
      CHECK(argument.slot == argument2.slot && same_constant(argument.constant, argument2.constant),
            "record: ", step.op->name, ": ", step.op->argument_names[j],
            " must not depend on the inputs unless it is one or the result of an op, got two values in two "
            "runs");
    }
  }
  CHECK(steps_.size() == other.steps_.size() && outputs_ == other.outputs_,
        "record: the function must call the same ops whatever its inputs, got ", steps_.size(), " and ",
        other.steps_.size(), " calls");
}

std::vector<std::string> Program::op_names() const {
  std::vector<std::string> names;
  for (const Step& step : steps_) names.push_back(step.op->name);
  return names;
}

}  // namespace dragoman
