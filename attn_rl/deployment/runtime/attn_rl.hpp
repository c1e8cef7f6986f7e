// A policy of attn_rl in C++17, with nothing but the standard library:
//
//     attn_rl::Policy policy = attn_rl::Policy::load("policy.safetensors");
//     attn_rl::Answer answer = policy({{"ego", {...}}, {"items", {...}}, {"items_present", {1, 1, 0}}});
//     int action = answer.action[0];
//
// An observation has the names that the environment gives its blocks; rows follow each other in one vector, any number
// of them. Absent rows have no influence at all. Anything that does not fit, in a file or in an observation, throws
// attn_rl::Error. A Policy is read only: threads may share it.
//
// Letters: N rows of a type, M tokens that are there, D width, H heads, Z columns that tokens show for relations.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <memory>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

namespace attn_rl {

struct Error : std::runtime_error {
    using std::runtime_error::runtime_error;
};

inline void require(bool holds, const std::string& otherwise) {
    if (!holds) throw Error(otherwise);
}

// ---- JSON, as much as a safetensors file needs -----------------------------------------------------------------

struct Json {
    enum Kind { NOTHING, TRUTH, NUMBER, TEXT, LIST, TABLE } kind = NOTHING;
    bool truth = false;
    double number = 0;
    std::string text;
    std::vector<Json> list;
    std::map<std::string, Json> table;

    bool empty() const { return kind == NOTHING; }
    const Json& operator[](const std::string& key) const {
        auto found = table.find(key);
        require(found != table.end(), "the file does not say '" + key + "'");
        return found->second;
    }
    const std::vector<Json>& items() const {
        require(kind == LIST, "expected a list in the file");
        return list;
    }
    const std::string& word() const {
        require(kind == TEXT, "expected a word in the file");
        return text;
    }
    double value() const {
        require(kind == NUMBER && std::isfinite(number), "expected a number in the file");
        return number;
    }
    bool yes() const {
        require(kind == TRUTH, "expected true or false in the file");
        return truth;
    }
    int64_t whole(int64_t least, int64_t most) const {
        require(value() >= double(least) && value() <= double(most) && number == std::floor(number),
                "a number in the file is out of its range");
        return int64_t(number);
    }
};

class JsonReader {
public:
    static Json read(const std::string& text) {
        JsonReader reader(text);
        Json found = reader.value(0);
        reader.space();
        require(reader.at_ == text.size(), "the file's description goes on after its end");
        return found;
    }

private:
    const std::string& text_;
    size_t at_ = 0;

    explicit JsonReader(const std::string& text) : text_(text) {}

    [[noreturn]] void fail() const { throw Error("the file's description is not JSON"); }
    void space() {
        while (at_ < text_.size() && std::strchr(" \t\r\n", text_[at_]) && text_[at_]) at_++;
    }
    bool take(char c) {
        space();
        if (at_ >= text_.size() || text_[at_] != c) return false;
        at_++;
        return true;
    }
    bool take(const char* word) {
        size_t n = std::strlen(word);
        if (text_.compare(at_, n, word) != 0) return false;
        at_ += n;
        return true;
    }

    Json value(int depth) {
        if (depth > 32) fail();
        space();
        Json found;
        if (at_ >= text_.size()) fail();
        if (text_[at_] == '"') found.kind = Json::TEXT, found.text = string();
        else if (take('{')) table(found, depth);
        else if (take('[')) list(found, depth);
        else if (take("true")) found.kind = Json::TRUTH, found.truth = true;
        else if (take("false")) found.kind = Json::TRUTH;
        else if (!take("null")) found.kind = Json::NUMBER, found.number = number();
        return found;
    }
    void table(Json& found, int depth) {
        found.kind = Json::TABLE;
        if (take('}')) return;
        do {
            space();
            std::string key = string();
            if (!take(':')) fail();
            found.table[key] = value(depth + 1);
        } while (take(','));
        if (!take('}')) fail();
    }
    void list(Json& found, int depth) {
        found.kind = Json::LIST;
        if (take(']')) return;
        do found.list.push_back(value(depth + 1));
        while (take(','));
        if (!take(']')) fail();
    }
    double number() {
        size_t start = at_;
        while (at_ < text_.size() && text_[at_] && std::strchr("+-.0123456789eE", text_[at_])) at_++;
        std::string digits = text_.substr(start, at_ - start);
        char* end = nullptr;
        double found = std::strtod(digits.c_str(), &end);
        if (digits.empty() || *end) fail();
        return found;
    }
    std::string string() {
        if (at_ >= text_.size() || text_[at_++] != '"') fail();
        std::string found;
        while (at_ < text_.size() && text_[at_] != '"') {
            if (text_[at_] == '\\') found += escaped();
            else found += text_[at_++];
        }
        if (at_++ >= text_.size()) fail();
        return found;
    }
    std::string escaped() {
        at_++;
        if (at_ >= text_.size()) fail();
        char c = text_[at_++];
        const char *codes = "\"\\/bfnrt", *meant = "\"\\/\b\f\n\r\t";
        if (const char* place = c ? std::strchr(codes, c) : nullptr) return std::string(1, meant[place - codes]);
        if (c != 'u' || at_ + 4 > text_.size()) fail();
        char* end = nullptr;
        std::string digits = text_.substr(at_, 4);
        long code = std::strtol(digits.c_str(), &end, 16);
        if (*end) fail();
        at_ += 4;
        return utf8(uint32_t(code));
    }
    static std::string utf8(uint32_t code) {  // halves of a pair stay two characters: names are compared, not shown
        if (code < 0x80) return std::string(1, char(code));
        if (code < 0x800) return {char(0xC0 | code >> 6), char(0x80 | (code & 63))};
        return {char(0xE0 | code >> 12), char(0x80 | (code >> 6 & 63)), char(0x80 | (code & 63))};
    }
};

// ---- tensors, and the file that holds them ---------------------------------------------------------------------

struct Tensor {
    std::vector<int64_t> shape;
    std::vector<float> x;
};

class Safetensors {
public:
    Json program;

    // The whole file in memory: 8 bytes n, n bytes of JSON, then the tensors (github.com/huggingface/safetensors).
    Safetensors(const uint8_t* file, size_t size) {
        require(size >= 8, "the file is too short for safetensors");
        uint64_t n = 0;
        for (int i = 7; i >= 0; i--) n = n << 8 | file[i];
        require(n <= size - 8 && n <= MOST_HEADER, "the file's header is longer than the file");
        Json header = JsonReader::read(std::string(reinterpret_cast<const char*>(file) + 8, size_t(n)));
        require(header.kind == Json::TABLE, "the file's header is no table");
        for (const auto& [name, entry] : header.table)
            if (name != "__metadata__") tensors_[name] = read(entry, file + 8 + n, size - 8 - size_t(n));
        program = JsonReader::read(header["__metadata__"]["program"].word());
        require(program.kind == Json::TABLE, "the file describes no policy");
    }

    // A tensor of a shape; -1: any size.
    Tensor get(const Json& name, std::vector<int64_t> shape) const {
        auto found = tensors_.find(name.word());
        require(found != tensors_.end(), "the file has no tensor " + name.word());
        const Tensor& tensor = found->second;
        bool fits = tensor.shape.size() == shape.size();
        for (size_t i = 0; fits && i < shape.size(); i++) fits = shape[i] < 0 || shape[i] == tensor.shape[i];
        require(fits, "tensor " + name.word() + " is of another shape than its place");
        return tensor;
    }

private:
    static constexpr uint64_t MOST_HEADER = 1 << 24;
    std::map<std::string, Tensor> tensors_;

    static Tensor read(const Json& entry, const uint8_t* data, size_t size) {
        require(entry["dtype"].word() == "F32", "a tensor in the file is not float32");
        Tensor made;
        uint64_t count = 1;
        for (const Json& axis : entry["shape"].items()) {
            made.shape.push_back(axis.whole(1, 1 << 24));
            count *= uint64_t(made.shape.back());
            require(count <= size / 4, "a tensor is larger than the file");
        }
        const auto& ends = entry["data_offsets"].items();
        require(ends.size() == 2, "a tensor has no place in the file");
        int64_t begin = ends[0].whole(0, int64_t(size)), end = ends[1].whole(0, int64_t(size));
        require(begin <= end && uint64_t(end - begin) == 4 * count, "a tensor's place is not of its size");
        made.x.resize(size_t(count));
        std::memcpy(made.x.data(), data + begin, size_t(4 * count));  // little-endian, as all machines of today
        return made;
    }
};

// ---- layers ----------------------------------------------------------------------------------------------------

struct Matrix {  // rows of numbers
    size_t rows = 0, cols = 0;
    std::vector<float> x;

    Matrix() = default;
    Matrix(size_t rows, size_t cols) : rows(rows), cols(cols), x(rows * cols) {}
    float* operator[](size_t i) { return x.data() + i * cols; }
    const float* operator[](size_t i) const { return x.data() + i * cols; }
};

inline float dot(const float* a, const float* b, size_t n) {
    float sum = 0;
    for (size_t i = 0; i < n; i++) sum += a[i] * b[i];
    return sum;
}

struct Linear {  // weight (out, in), bias (out) or nothing
    size_t n_in = 0, n_out = 0;
    std::vector<float> weight, bias;

    Linear() = default;
    Linear(const Safetensors& file, const Json& weights, const Json& biases, int64_t width) {
        Tensor w = file.get(weights, {-1, width});
        n_out = size_t(w.shape[0]), n_in = size_t(w.shape[1]), weight = std::move(w.x);
        if (!biases.empty()) bias = file.get(biases, {int64_t(n_out)}).x;
    }
    Linear(const Safetensors& file, const Json& json, int64_t width)
        : Linear(file, json["weight"], json["bias"], width) {}

    Matrix operator()(const Matrix& x) const {
        Matrix out(x.rows, n_out);
        for (size_t i = 0; i < x.rows; i++)
            for (size_t o = 0; o < n_out; o++)
                out[i][o] = dot(x[i], &weight[o * n_in], n_in) + (bias.empty() ? 0.0f : bias[o]);
        return out;
    }
};

struct Norm {  // layer normalisation
    std::vector<float> weight, bias;
    float eps = 0;

    Norm() = default;
    Norm(const Safetensors& file, const Json& json, int64_t width)
        : weight(file.get(json["weight"], {width}).x), bias(file.get(json["bias"], {width}).x),
          eps(float(json["eps"].value())) {}

    Matrix operator()(Matrix x) const {
        size_t n = x.cols;
        for (size_t i = 0; i < x.rows; i++) {
            float mean = 0, square = 0;
            for (size_t c = 0; c < n; c++) mean += x[i][c];
            mean /= float(n);
            for (size_t c = 0; c < n; c++) square += (x[i][c] - mean) * (x[i][c] - mean);
            float factor = 1 / std::sqrt(square / float(n) + eps);
            for (size_t c = 0; c < n; c++) x[i][c] = (x[i][c] - mean) * factor * weight[c] + bias[c];
        }
        return x;
    }
};

struct Scaling {  // clip((x - mean) * factor); nothing: x as it is
    std::vector<float> mean, factor;
    float clip = 0;

    Scaling() = default;
    Scaling(const Safetensors& file, const Json& json, int64_t width) {
        if (json.empty()) return;
        mean = file.get(json["mean"], {width}).x, factor = file.get(json["factor"], {int64_t(mean.size())}).x;
        clip = float(json["clip"].value());
        require(clip >= 0, "a scaling's bound is negative");
    }
    float operator()(float x, size_t c) const {
        return mean.empty() ? x : std::min(std::max((x - mean[c]) * factor[c], -clip), clip);
    }
};

struct Layer {  // one of a stack
    enum Kind { LINEAR, NORM, RELU, TANH } kind = RELU;
    Linear linear;
    Norm norm;

    Matrix operator()(Matrix x) const {
        if (kind == LINEAR) return linear(x);
        if (kind == NORM) return norm(std::move(x));
        for (float& v : x.x) v = kind == TANH ? std::tanh(v) : std::max(v, 0.0f);
        return x;
    }
};

struct Stack {
    std::vector<Layer> layers;
    size_t n_out = 0;

    Stack() = default;
    Stack(const Safetensors& file, const Json& json, size_t width) : n_out(width) {
        for (const Json& one : json.items()) {
            Layer layer;
            const std::string& kind = one["kind"].word();
            if (kind == "linear") {
                layer.kind = Layer::LINEAR, layer.linear = Linear(file, one, int64_t(n_out));
                n_out = layer.linear.n_out;
            } else if (kind == "norm") {
                layer.kind = Layer::NORM, layer.norm = Norm(file, one, int64_t(n_out));
            } else {
                require(kind == "relu" || kind == "tanh", "unknown layer '" + kind + "'");
                layer.kind = kind == "tanh" ? Layer::TANH : Layer::RELU;
            }
            layers.push_back(std::move(layer));
        }
    }
    Matrix operator()(Matrix x) const {
        for (const Layer& layer : layers) x = layer(std::move(x));
        return x;
    }
};

// ---- observations ----------------------------------------------------------------------------------------------

using Observation = std::map<std::string, std::vector<float>>;

struct Rows {  // of one entity type, as the observation has them
    Matrix x;
    std::vector<bool> present;

    size_t n_present() const { return size_t(std::count(present.begin(), present.end(), true)); }
};

struct Scene {  // an observation taken apart
    std::vector<float> ego;
    std::vector<Rows> types;
    std::vector<float> mask;
};

inline const std::vector<float>& block(const Observation& observation, const std::string& name) {
    auto found = observation.find(name);
    require(found != observation.end(), "the observation has no '" + name + "'");
    return found->second;
}

struct Features {  // as an observation has them: numbers, and categories, which become one column per value
    std::string name;
    size_t n = 0, width = 0;    // before and after
    std::vector<size_t> sizes;  // number of values of each; 0: a number

    explicit Features(const Json& json)
        : name(json["name"].word()), n(size_t(json["width"].whole(1, 1 << 20))), sizes(n) {
        auto given = json.table.find("categories");
        if (given != json.table.end()) {
            require(given->second.items().size() == n, "'" + name + "' has categories for other features");
            for (size_t c = 0; c < n; c++) sizes[c] = size_t(given->second.items()[c].whole(0, 1 << 16));
        }
        for (size_t size : sizes) width += size ? size : 1;
    }
    // Of a row that is not there, whatever a category says becomes zeros.
    float* expand(size_t c, float value, bool there, float* to) const {
        if (!sizes[c]) return *to = value, to + 1;
        bool known = value >= 0 && value < float(sizes[c]) && value == std::floor(value);
        require(known || !there, "'" + name + "' holds a category that is none of its values");
        if (known) to[size_t(value)] = 1;
        return to + sizes[c];
    }
};

struct TypeInput : Features {
    std::string presence;  // empty: all rows are there, or a column says it
    int64_t column = -1;

    explicit TypeInput(const Json& json)
        : Features(json), presence(json["presence"].empty() ? "" : json["presence"].word()),
          column(json["presence_column"].empty() ? -1 : json["presence_column"].whole(0, int64_t(n))) {}

    Rows operator()(const Observation& observation) const {
        const std::vector<float>& all = block(observation, name);
        size_t wide = n + (column >= 0), n_rows = all.size() / wide;
        require(n_rows * wide == all.size(), "'" + name + "' is not made of whole rows");
        Rows rows{Matrix(n_rows, width), std::vector<bool>(n_rows, true)};
        if (column >= 0)
            for (size_t i = 0; i < n_rows; i++) rows.present[i] = all[i * wide + size_t(column)] > 0.5f;
        if (!presence.empty()) {
            const std::vector<float>& flags = block(observation, presence);
            require(flags.size() == n_rows, "'" + presence + "' and '" + name + "' have different numbers of rows");
            for (size_t i = 0; i < n_rows; i++) rows.present[i] = flags[i] > 0.5f;
        }
        for (size_t i = 0; i < n_rows; i++) {
            float* to = rows.x[i];
            for (size_t c = 0, from = 0; c < n; c++, from++) {
                if (int64_t(from) == column) from++;
                to = expand(c, all[i * wide + from], rows.present[i], to);
            }
        }
        return rows;
    }
};

// ---- tokens ----------------------------------------------------------------------------------------------------

struct Tokens {  // those that are there
    Matrix x;                    // (M, D)
    std::vector<size_t> source;  // which source each is of
    std::vector<size_t> place;   // where it stands among all tokens, absent ones too
    size_t n_lead = 0, n_all = 0;
};

struct Source {  // of tokens: a learned query, the ego, an entity type
    enum Role { QUERY, EGO, TYPE } role = TYPE;
    Scaling scaling;
    Linear first, context, second;
    bool has_context = false;
    std::vector<float> query;

    Source(const Safetensors& file, const Json& json, int64_t n_features, int64_t n_ego) {
        const std::string& word = json["role"].word();
        require(word == "query" || word == "ego" || word == "type", "unknown tokens '" + word + "'");
        role = word == "query" ? QUERY : word == "ego" ? EGO : TYPE;
        if (role == QUERY) {
            query = file.get(json["query"], {-1}).x;
            return;
        }
        scaling = Scaling(file, json["scaling"], n_features);
        const Json& parts = json["embedding"];
        first = Linear(file, parts["first"], n_features);
        has_context = !parts["context"].empty();
        if (has_context) context = Linear(file, parts["context"], Json(), n_ego);
        require(!has_context || context.n_out == first.n_out, "an embedding's context is of another width");
        second = Linear(file, parts["second"], int64_t(first.n_out));
    }
    size_t width() const { return role == QUERY ? query.size() : second.n_out; }

    // second(relu(first(x) + context(ego)))
    Matrix embed(const Matrix& x, const Matrix& ego) const {
        Matrix hidden = first(x);
        if (has_context) {
            Matrix shared = context(ego);
            for (size_t i = 0; i < hidden.rows; i++)
                for (size_t c = 0; c < hidden.cols; c++) hidden[i][c] += shared[0][c];
        }
        for (float& v : hidden.x) v = std::max(v, 0.0f);
        return second(hidden);
    }
};

// ---- relations -------------------------------------------------------------------------------------------------

struct Group {  // features of one source that are compared
    size_t source, place;
    std::vector<size_t> columns;
};

struct Kind {  // groups of one kind, on one scale
    enum Compare { VALUE, POSITION, CATEGORY, FEATURE } compare = VALUE;
    std::vector<Group> groups;
    Scaling scaling;

    size_t width() const { return groups[0].columns.size(); }
    size_t n_shown() const {
        return compare == CATEGORY ? width() : compare == FEATURE ? 2 * width() + 1 : width() + 2;
    }
};

struct Carried {  // positions that are carried in the values
    std::vector<size_t> places;
    size_t width;
    Linear project;
};

struct Relation {  // of one block
    Linear forms;  // (H Z, Z): every head's form, transposed
    std::vector<Carried> carried;
};

// Every token's position, the mean of several, and 1 where it has one: (M, w+1).
inline Matrix positions(const Matrix& shown, const Carried& part) {
    size_t w = part.width;
    Matrix found(shown.rows, w + 1);
    for (size_t i = 0; i < shown.rows; i++) {
        float count = 0;
        for (size_t place : part.places) {
            for (size_t c = 0; c < w; c++) found[i][c] += shown[i][place + c];
            count += shown[i][place + w + 1];
        }
        for (size_t c = 0; c < w; c++) found[i][c] /= std::max(count, 1.0f);
        found[i][w] = std::min(count, 1.0f);
    }
    return found;
}

// ---- attention -------------------------------------------------------------------------------------------------

struct Pattern {  // weights (H, Q, M) over the tokens that are there
    size_t heads = 0, queries = 0, tokens = 0;
    std::vector<float> x;

    Pattern() = default;
    Pattern(size_t h, size_t q, size_t m) : heads(h), queries(q), tokens(m), x(h * q * m) {}
    float* row(size_t h, size_t q) { return x.data() + (h * queries + q) * tokens; }
    const float* row(size_t h, size_t q) const { return x.data() + (h * queries + q) * tokens; }
};

inline void softmax(float* x, size_t n) {
    float most = n ? *std::max_element(x, x + n) : 0, sum = 0;
    for (size_t i = 0; i < n; i++) sum += x[i] = std::exp(x[i] - most);
    for (size_t i = 0; i < n; i++) x[i] /= sum;
}

struct Block {  // y = x + attention(norm x), y + narrow(relu(widen(norm y)))
    Norm norm_attention, norm_feedforward;
    Linear query, key, value, output, widen, narrow;
    size_t n_heads;
    float count_factor;
    bool scales_products;
    std::vector<float> temperature;  // per head: cosine similarities; none: dot products
    std::unique_ptr<Relation> relation;

    Block(const Safetensors& file, const Json& json, int64_t D, size_t n_shown)
        : norm_attention(file, json["norm_attention"], D), norm_feedforward(file, json["norm_feedforward"], D),
          query(file, json["query"], D), key(file, json["key"], D), value(file, json["value"], D),
          output(file, json["output"], D), widen(file, json["widen"], D),
          narrow(file, json["narrow"], int64_t(widen.n_out)), n_heads(size_t(json["n_heads"].whole(1, D))),
          count_factor(float(json["count_factor"].value())), scales_products(json["scales_products"].yes()) {
        size_t d = size_t(D);
        bool fits = query.n_out == d && key.n_out == d && value.n_out == d && output.n_out == d && narrow.n_out == d;
        require(fits && d % n_heads == 0, "a block's widths do not fit");
        if (!json["temperature"].empty()) temperature = file.get(json["temperature"], {int64_t(n_heads)}).x;
        if (!json["relation"].empty()) read_relation(file, json["relation"], n_shown);
    }

    // The rows wanted: the first, or all. shown (M, Z): what relations compare.
    Matrix operator()(const Matrix& x, const Matrix& shown, bool first_only, Pattern* seen) const {
        size_t Q = first_only ? std::min<size_t>(1, x.rows) : x.rows;
        Matrix normed = norm_attention(x), rows = first_rows(x, Q), queries = first_rows(normed, Q);
        Pattern pattern = look(query(queries), key(normed), shown, Q);
        Matrix mixed = output(mix(pattern, value(normed)));
        if (relation) carry(pattern, shown, mixed);
        for (size_t i = 0; i < rows.x.size(); i++) rows.x[i] += mixed.x[i];
        Matrix hidden = widen(norm_feedforward(rows));
        for (float& v : hidden.x) v = std::max(v, 0.0f);
        Matrix more = narrow(hidden);
        for (size_t i = 0; i < rows.x.size(); i++) rows.x[i] += more.x[i];
        if (seen) *seen = std::move(pattern);
        return rows;
    }

private:
    static Matrix first_rows(const Matrix& x, size_t n) {
        Matrix found(n, x.cols);
        std::copy(x.x.begin(), x.x.begin() + std::ptrdiff_t(n * x.cols), found.x.begin());
        return found;
    }

    void read_relation(const Safetensors& file, const Json& json, size_t n_shown) {
        relation = std::make_unique<Relation>();
        relation->forms = Linear(file, json["forms"], Json(), int64_t(n_shown));
        require(relation->forms.n_out == n_heads * n_shown, "a relation's forms are not one per head");
        for (const Json& one : json["carried"].items()) {
            Carried part;
            part.width = size_t(one["width"].whole(1, int64_t(n_shown)));
            for (const Json& place : one["places"].items())
                part.places.push_back(size_t(place.whole(0, int64_t(n_shown) - int64_t(part.width) - 2)));
            part.project = Linear(file, one["project"], Json(), int64_t(n_heads * (part.width + 1)));
            require(part.project.n_out == output.n_out, "carried positions are of another width");
            relation->carried.push_back(std::move(part));
        }
    }

    static void to_unit_length(Matrix& x, size_t from, size_t d) {
        for (size_t i = 0; i < x.rows; i++) {
            float* v = x[i] + from;
            float length = std::max(std::sqrt(dot(v, v, d)), 1e-12f);
            for (size_t c = 0; c < d; c++) v[c] /= length;
        }
    }

    // softmax(scale q.k + bias); both grow with log(1 + number of tokens).
    Pattern look(Matrix q, Matrix k, const Matrix& shown, size_t Q) const {
        size_t M = k.rows, D = k.cols, d = D / n_heads, Z = shown.cols;
        float grow = count_factor == 0 ? 1.0f : std::log1p(float(M)) * count_factor;
        Matrix left;
        if (relation) left = relation->forms(first_rows(shown, Q));
        Pattern pattern(n_heads, Q, M);
        for (size_t h = 0; h < n_heads; h++) {
            float scale = temperature.empty() ? 1 / std::sqrt(float(d)) : temperature[h];
            if (!temperature.empty()) to_unit_length(q, h * d, d), to_unit_length(k, h * d, d);
            if (!relation || scales_products) scale *= grow;
            for (size_t i = 0; i < Q; i++) {
                float* row = pattern.row(h, i);
                for (size_t j = 0; j < M; j++) {
                    row[j] = dot(q[i] + h * d, k[j] + h * d, d) * scale;
                    if (relation) row[j] += dot(left[i] + h * Z, shown[j], Z) * grow;
                }
                softmax(row, M);
            }
        }
        return pattern;
    }

    Matrix mix(const Pattern& pattern, const Matrix& v) const {
        size_t d = v.cols / n_heads;
        Matrix mixed(pattern.queries, v.cols);
        for (size_t h = 0; h < n_heads; h++)
            for (size_t i = 0; i < pattern.queries; i++)
                for (size_t j = 0; j < pattern.tokens; j++)
                    for (size_t c = h * d; c < (h + 1) * d; c++) mixed[i][c] += pattern.row(h, i)[j] * v[j][c];
        return mixed;
    }

    // Where each head looks, as seen from the query: bounded offsets, and how much weight lies on positions.
    void carry(const Pattern& pattern, const Matrix& shown, Matrix& out) const {
        for (const Carried& part : relation->carried) {
            size_t w = part.width;
            Matrix here = positions(shown, part), told(pattern.queries, n_heads * (w + 1));
            for (size_t i = 0; i < pattern.queries; i++)
                for (size_t h = 0; h < n_heads; h++) {
                    float *to = told[i] + h * (w + 1), square = 0;
                    for (size_t j = 0; j < pattern.tokens; j++)
                        for (size_t c = 0; c <= w; c++) to[c] += pattern.row(h, i)[j] * here[j][c];
                    for (size_t c = 0; c < w; c++) to[c] -= to[w] * here[i][c], square += to[c] * to[c];
                    for (size_t c = 0; c < w; c++) to[c] /= std::sqrt(1 + square);
                }
            Matrix more = part.project(told);
            for (size_t i = 0; i < out.rows; i++)
                for (size_t c = 0; c < out.cols; c++) out[i][c] += more[i][c] * here[i][w];
        }
    }
};

// ---- networks --------------------------------------------------------------------------------------------------

struct Encoded {
    Matrix readout;                 // (1, D)
    Matrix entities;                // rows of entities that are there; nothing where only the first row was computed
    std::vector<size_t> place;      // of those rows, among all entities
    std::vector<Pattern> patterns;  // over all tokens, absent ones too
};

class Network {
public:
    size_t n_out = 0;

    Network(const Safetensors& file, const Json& json, const std::vector<TypeInput>& types, size_t n_ego) {
        size_t next = 0;
        bool has_ego = false, needs_ego = false;
        for (const Json& one : json["tokens"].items()) {
            bool type = one["role"].word() == "type";
            require(!type || next < types.size(), "the file has more tokens than types");
            int64_t width = type ? int64_t(types[next++].width) : int64_t(n_ego);
            sources_.emplace_back(file, one, width, int64_t(n_ego));
            require(sources_.back().width() == sources_[0].width(), "tokens are of different widths");
            require(sources_.back().role == Source::TYPE || next == 0, "an entity type stands before the ego");
            has_ego |= sources_.back().role == Source::EGO;
            needs_ego |= sources_.back().has_context;
            features_.push_back(size_t(width));
        }
        require(next == types.size() && next > 0, "an entity type has no tokens");
        require(has_ego || !needs_ego, "entities are embedded with an ego that is not there");
        n_lead_ = sources_.size() - next, width_ = sources_[0].width();
        is_attention_ = json.table.count("blocks") > 0;
        is_attention_ ? read_attention(file, json) : read_deep_sets(file, json);
        project_ = Stack(file, json["project"], n_out);
        n_out = project_.n_out;
    }
    size_t token_width() const { return is_attention_ ? width_ : phi_.n_out; }
    bool has_entities() const { return !reads_first_; }

    Encoded operator()(const Scene& scene, bool maps) const {
        Tokens tokens = tokenize(scene);
        Encoded found;
        is_attention_ ? attend(scene, tokens, maps, found) : pool_sets(tokens, found);
        for (size_t i = tokens.n_lead; i < tokens.place.size(); i++) found.place.push_back(tokens.place[i] - n_lead_);
        found.readout = project_(std::move(found.readout));
        return found;
    }

private:
    std::vector<Source> sources_;
    std::vector<size_t> features_;
    std::vector<Block> blocks_;
    std::vector<Kind> kinds_;
    Norm norm_;
    Stack phi_, rho_, project_;
    std::vector<bool> pools_max_;
    std::vector<float> empty_;
    size_t n_lead_ = 0, n_shown_ = 0, width_ = 0;
    bool is_attention_ = true, reads_first_ = false;

    // ---- reading ----

    void read_attention(const Safetensors& file, const Json& json) {
        for (const Json& one : json["kinds"].items()) read_kind(file, one);
        for (const Json& one : json["blocks"].items()) blocks_.emplace_back(file, one, int64_t(width_), n_shown_);
        norm_ = Norm(file, json["norm"], int64_t(width_));
        reads_first_ = json["reads_first"].yes();
        if (!json["pooling"].empty()) read_pooling(file, json["pooling"], width_);
        require(pools_max_.empty() ? n_lead_ > 0 : !reads_first_, "the rows that are read are not those computed");
        require(!blocks_.empty(), "the network has no block");
        n_out = pools_max_.empty() ? width_ : pools_max_.size() * width_;
    }
    void read_deep_sets(const Safetensors& file, const Json& json) {
        require(n_lead_ <= 1, "DeepSets has one ego");
        phi_ = Stack(file, json["phi"], width_);
        read_pooling(file, json["pooling"], phi_.n_out);
        rho_ = Stack(file, json["rho"], n_lead_ * width_ + pools_max_.size() * phi_.n_out);
        n_out = rho_.n_out;
    }
    void read_pooling(const Safetensors& file, const Json& json, size_t width) {
        for (const Json& pool : json["pools"].items()) {
            require(pool.word() == "mean" || pool.word() == "max", "unknown pooling '" + pool.word() + "'");
            pools_max_.push_back(pool.word() == "max");
        }
        require(!pools_max_.empty(), "a pooling of nothing");
        empty_ = file.get(json["empty"], {int64_t(pools_max_.size() * width)}).x;
    }
    void read_kind(const Safetensors& file, const Json& json) {
        Kind kind;
        const std::map<std::string, Kind::Compare> ways = {{"value", Kind::VALUE}, {"position", Kind::POSITION},
                                                           {"category", Kind::CATEGORY}, {"feature", Kind::FEATURE}};
        auto way = ways.find(json["compare"].word());
        require(way != ways.end(), "unknown comparison '" + json["compare"].word() + "'");
        kind.compare = way->second;
        for (const Json& one : json["groups"].items()) {
            Group group;
            group.source = size_t(one["token"].whole(0, int64_t(sources_.size()) - 1));
            group.place = size_t(one["place"].whole(0, 1 << 16));
            require(sources_[group.source].role != Source::QUERY, "a learned query has no features");
            for (const Json& column : one["columns"].items())
                group.columns.push_back(size_t(column.whole(0, int64_t(features_[group.source]) - 1)));
            kind.groups.push_back(std::move(group));
        }
        require(!kind.groups.empty() && kind.width() > 0, "a kind without features");
        for (const Group& group : kind.groups) {
            require(group.columns.size() == kind.width(), "groups of one kind have different widths");
            n_shown_ = std::max(n_shown_, group.place + kind.n_shown());
        }
        kind.scaling = Scaling(file, json["scaling"], -1);
        kinds_.push_back(std::move(kind));
    }

    // ---- computing ----

    Matrix raw(const Scene& scene, size_t s, size_t type) const {  // features of a source's tokens that are there
        if (sources_[s].role == Source::EGO) {
            Matrix found(1, scene.ego.size());
            found.x = scene.ego;
            return found;
        }
        const Rows& rows = scene.types[type];
        Matrix found(rows.n_present(), rows.x.cols);
        for (size_t i = 0, to = 0; i < rows.x.rows; i++)
            if (rows.present[i]) std::copy(rows.x[i], rows.x[i] + rows.x.cols, found[to++]);
        return found;
    }
    static Matrix scaled(Matrix x, const Scaling& scaling) {
        for (size_t i = 0; i < x.rows; i++)
            for (size_t c = 0; c < x.cols; c++) x[i][c] = scaling(x[i][c], c);
        return x;
    }

    Tokens tokenize(const Scene& scene) const {
        Tokens found;
        Matrix ego;
        found.n_lead = n_lead_;
        for (size_t s = 0; s < sources_.size(); s++)
            if (sources_[s].role == Source::EGO) ego = scaled(raw(scene, s, 0), sources_[s].scaling);
        for (size_t s = 0; s < sources_.size(); s++) {
            const Source& source = sources_[s];
            if (source.role == Source::QUERY) add(found, s, source.query);
            if (source.role == Source::EGO) add(found, s, source.embed(ego, ego).x);
            if (source.role != Source::TYPE) continue;
            const Rows& rows = scene.types[s - n_lead_];
            Matrix x = source.embed(scaled(raw(scene, s, s - n_lead_), source.scaling), ego);
            found.x.x.insert(found.x.x.end(), x.x.begin(), x.x.end());
            for (bool there : rows.present) {
                if (there) found.source.push_back(s), found.place.push_back(found.n_all);
                found.n_all++;
            }
        }
        found.x.rows = found.place.size(), found.x.cols = width_;
        return found;
    }
    static void add(Tokens& tokens, size_t source, const std::vector<float>& row) {
        tokens.x.x.insert(tokens.x.x.end(), row.begin(), row.end());
        tokens.source.push_back(source), tokens.place.push_back(tokens.n_all++);
    }

    // What tokens show for relations, (M, Z): per group [u, |u|^2, 1], [u, u^2, 1] or [u]; u centred and scaled.
    Matrix show(const Scene& scene, const Tokens& tokens) const {
        Matrix shown(tokens.place.size(), n_shown_);
        for (const Kind& kind : kinds_) {
            size_t w = kind.width(), n = 0;
            std::vector<Matrix> rows;
            std::vector<float> centre(w);
            for (const Group& group : kind.groups) {
                rows.push_back(raw(scene, group.source, group.source - n_lead_));
                n += rows.back().rows;
                for (size_t i = 0; i < rows.back().rows; i++)
                    for (size_t c = 0; c < w; c++) centre[c] += rows.back()[i][group.columns[c]];
            }
            for (float& c : centre) c = kind.compare == Kind::CATEGORY ? 0 : c / float(std::max<size_t>(n, 1));
            for (size_t g = 0; g < rows.size(); g++) show_group(kind, kind.groups[g], rows[g], centre, tokens, shown);
        }
        return shown;
    }
    static void show_group(const Kind& kind, const Group& group, const Matrix& rows, const std::vector<float>& centre,
                           const Tokens& tokens, Matrix& shown) {
        size_t w = kind.width(), n_scales = std::max<size_t>(kind.scaling.mean.size(), 1);
        for (size_t t = 0, i = 0; t < tokens.source.size(); t++) {
            if (tokens.source[t] != group.source) continue;
            float *to = shown[t] + group.place, square = 0;
            for (size_t c = 0; c < w; c++) {
                to[c] = kind.scaling(rows[i][group.columns[c]] - centre[c], c % n_scales);
                square += to[c] * to[c];
                if (kind.compare == Kind::FEATURE) to[w + c] = to[c] * to[c];
            }
            if (kind.compare == Kind::FEATURE) to[2 * w] = 1;
            else if (kind.compare != Kind::CATEGORY) to[w] = square, to[w + 1] = 1;
            i++;
        }
    }

    void attend(const Scene& scene, const Tokens& tokens, bool maps, Encoded& found) const {
        Matrix shown = show(scene, tokens), x = tokens.x;
        for (size_t i = 0; i < blocks_.size(); i++) {
            Pattern pattern;
            bool first_only = reads_first_ && i + 1 == blocks_.size();
            x = blocks_[i](x, shown, first_only, maps ? &pattern : nullptr);
            if (maps) found.patterns.push_back(spread(pattern, tokens, first_only));
        }
        x = norm_(std::move(x));
        if (!reads_first_) found.entities = entities(x);
        if (!pools_max_.empty()) found.readout = pool(entities(x));
        else x.rows = 1, x.x.resize(x.cols), found.readout = std::move(x);
    }
    void pool_sets(const Tokens& tokens, Encoded& found) const {
        found.entities = phi_(entities(tokens.x));
        Matrix pooled = pool(found.entities), joined(1, n_lead_ * width_ + pooled.cols);
        if (n_lead_) std::copy(tokens.x[0], tokens.x[0] + width_, joined[0]);
        std::copy(pooled.x.begin(), pooled.x.end(), joined[0] + n_lead_ * width_);
        found.readout = rho_(std::move(joined));
    }
    Matrix entities(const Matrix& x) const {
        Matrix found(x.rows - n_lead_, x.cols);
        std::copy(x[n_lead_], x[n_lead_] + found.x.size(), found.x.begin());
        return found;
    }
    Matrix pool(const Matrix& x) const {
        Matrix pooled(1, empty_.size());
        if (!x.rows) pooled.x = empty_;
        for (size_t p = 0; p < pools_max_.size(); p++)
            for (size_t c = 0; x.rows && c < x.cols; c++) {
                float& to = pooled[0][p * x.cols + c] = pools_max_[p] ? x[0][c] : 0;
                for (size_t i = 0; i < x.rows; i++) to = pools_max_[p] ? std::max(to, x[i][c]) : to + x[i][c];
                if (!pools_max_[p]) to /= float(x.rows);
            }
        return pooled;
    }
    // To all tokens: absent ones are looked at with weight zero, and look nowhere.
    static Pattern spread(const Pattern& from, const Tokens& tokens, bool first_only) {
        Pattern to(from.heads, first_only ? 1 : tokens.n_all, tokens.n_all);
        for (size_t h = 0; h < from.heads; h++)
            for (size_t i = 0; i < from.queries; i++)
                for (size_t j = 0; j < from.tokens; j++)
                    to.row(h, first_only ? 0 : tokens.place[i])[tokens.place[j]] = from.row(h, i)[j];
        return to;
    }
};

// ---- the policy ------------------------------------------------------------------------------------------------

struct Answer {
    std::vector<float> action;         // the deterministic one: a whole number per choice, or a Box's numbers
    std::vector<float> probabilities;  // of all choices, dimension by dimension; of switches: to be on
    std::vector<float> mean, std;      // of a Box
    float value = 0;
    std::vector<Pattern> maps;         // block by block, where asked for
};

class Policy {
public:
    static Policy load(const std::string& path) {
        std::unique_ptr<std::FILE, int (*)(std::FILE*)> file(std::fopen(path.c_str(), "rb"), &std::fclose);
        require(file != nullptr, path + " cannot be opened");
        std::vector<uint8_t> bytes;
        uint8_t part[1 << 14];
        for (size_t n; (n = std::fread(part, 1, sizeof part, file.get())) > 0;)
            bytes.insert(bytes.end(), part, part + n);
        return Policy(bytes.data(), bytes.size());
    }
    Policy(const uint8_t* bytes, size_t size) {
        Safetensors file(bytes, size);
        const Json &json = file.program, &inputs = json["inputs"], &heads = json["heads"];
        for (const Json& one : inputs["types"].items()) types_.emplace_back(one);
        for (const Json& one : inputs["ego"].items()) ego_.emplace_back(one), n_ego_ += ego_.back().width;
        masked_ = inputs["masked"].yes();
        for (const Json& one : json["networks"].items()) networks_.emplace_back(file, one, types_, n_ego_);
        require(networks_.size() == 1 || networks_.size() == 2, "a policy has one network or two");
        actor_ = Stack(file, heads["actor"], networks_.front().n_out);
        critic_ = Stack(file, heads["critic"], networks_.back().n_out);
        value_ = Linear(file, heads["value"], int64_t(critic_.n_out));
        require(value_.n_out == 1, "the value is one number");
        forbids_ = heads["forbids"].yes();
        if (!heads["flat"].empty()) flat_ = Linear(file, heads["flat"], int64_t(actor_.n_out));
        if (!heads["point"].empty()) read_pointer(file, heads);
        read_actions(file, json["actions"]);
    }

    Answer operator()(const Observation& observation, bool maps = false) const {
        Scene scene = take_apart(observation);
        Encoded seen = networks_.front()(scene, maps);
        Matrix latent = actor_(seen.readout);
        Answer answer;
        if (networks_.size() > 1) answer.value = value_(critic_(networks_.back()(scene, false).readout)).x[0];
        else answer.value = value_(critic_(seen.readout)).x[0];
        act(scene, seen, latent, answer);
        answer.maps = std::move(seen.patterns);
        return answer;
    }

private:
    enum Kind { CHOICES, SWITCHES, BOX } kind_ = CHOICES;
    std::vector<TypeInput> types_;
    std::vector<Features> ego_;
    size_t n_ego_ = 0, pointer_type_ = 0, pointer_dimension_ = 0;
    bool masked_ = false, forbids_ = false, points_ = false;
    std::vector<Network> networks_;
    Stack actor_, critic_;
    Linear value_, flat_, from_token_, from_latent_, score_;
    std::vector<size_t> sizes_;
    std::vector<float> low_, high_, std_;

    void read_pointer(const Safetensors& file, const Json& heads) {
        const Json& point = heads["point"];
        points_ = true;
        pointer_type_ = size_t(heads["pointer_type"].whole(0, int64_t(types_.size()) - 1));
        pointer_dimension_ = size_t(heads["pointer_dimension"].whole(0, 1 << 16));
        require(networks_.front().has_entities(), "the network has no rows to point at");
        from_token_ = Linear(file, point["from_token"], int64_t(networks_.front().token_width()));
        from_latent_ = Linear(file, point["from_latent"], int64_t(actor_.n_out));
        score_ = Linear(file, point["score"], int64_t(from_token_.n_out));
        require(from_latent_.n_out == from_token_.n_out && score_.n_out == 1, "the pointer's widths do not fit");
    }
    void read_actions(const Safetensors& file, const Json& json) {
        const std::string& kind = json["kind"].word();
        require(kind == "choices" || kind == "switches" || kind == "box", "unknown actions '" + kind + "'");
        kind_ = kind == "choices" ? CHOICES : kind == "switches" ? SWITCHES : BOX;
        require(kind_ == CHOICES || (flat_.n_out && !points_), "these actions need a linear layer");
        if (kind_ == BOX) {
            int64_t n = int64_t(flat_.n_out);
            low_ = file.get(json["low"], {n}).x, high_ = file.get(json["high"], {n}).x;
            for (float x : file.get(json["log_std"], {n}).x) std_.push_back(std::exp(x));
        }
        if (kind_ != CHOICES) return;
        size_t n_flat = 0;
        for (const Json& size : json["sizes"].items()) {
            sizes_.push_back(size_t(size.whole(1, 1 << 24)));
            if (!points_ || sizes_.size() - 1 != pointer_dimension_) n_flat += sizes_.back();
        }
        require(!points_ || pointer_dimension_ < sizes_.size(), "the pointer is none of the actions");
        require(n_flat == flat_.n_out, "the action layer is not of the actions' size");
    }

    Scene take_apart(const Observation& observation) const {
        Scene scene;
        scene.ego.resize(n_ego_);
        float* to = scene.ego.data();
        for (const Features& features : ego_) {
            const std::vector<float>& part = block(observation, features.name);
            require(part.size() == features.n, "'" + features.name + "' has not its number of features");
            for (size_t c = 0; c < features.n; c++) to = features.expand(c, part[c], true, to);
        }
        for (const TypeInput& type : types_) scene.types.push_back(type(observation));
        if (masked_) scene.mask = block(observation, "action_mask");
        return scene;
    }

    void act(const Scene& scene, const Encoded& seen, const Matrix& latent, Answer& answer) const {
        std::vector<float> flat = flat_.n_out ? flat_(latent).x : std::vector<float>();
        if (kind_ == BOX) {
            answer.mean = flat, answer.std = std_;
            for (size_t i = 0; i < flat.size(); i++)
                answer.action.push_back(std::min(std::max(flat[i], low_[i]), high_[i]));
        } else if (kind_ == SWITCHES) {
            for (float x : flat) answer.probabilities.push_back(1 / (1 + std::exp(-x)));
            for (float p : answer.probabilities) answer.action.push_back(p > 0.5f);
        } else {
            choose(scene, seen, latent, flat, answer);
        }
    }

    // Dimension by dimension; what is forbidden has probability zero, and choice 0 stands in where all is.
    void choose(const Scene& scene, const Encoded& seen, const Matrix& latent, const std::vector<float>& flat,
                Answer& answer) const {
        size_t used = 0, at = 0;
        for (size_t i = 0; i < sizes_.size(); i++) {
            bool points = points_ && i == pointer_dimension_;
            size_t n = points ? scene.types[pointer_type_].present.size() : sizes_[i];
            require(n > 0, "there is nothing to choose from");
            std::vector<bool> valid = points ? scene.types[pointer_type_].present : std::vector<bool>(n, true);
            std::vector<float> logits(n);
            if (points) logits = point(scene, seen, latent);
            else std::copy_n(flat.begin() + std::ptrdiff_t(used), n, logits.begin()), used += n;
            if (masked_ && forbids_) {
                require(scene.mask.size() >= at + n, "'action_mask' has too few entries");
                for (size_t c = 0; c < n; c++) valid[c] = valid[c] && scene.mask[at + c] > 0.5f;
            }
            at += n;
            decide(logits, valid, answer);
        }
        require(!(masked_ && forbids_) || scene.mask.size() == at, "'action_mask' has too many entries");
    }
    static void decide(const std::vector<float>& logits, std::vector<bool> valid, Answer& answer) {
        if (std::find(valid.begin(), valid.end(), true) == valid.end()) valid[0] = true;
        std::vector<float> left;
        size_t best = logits.size();
        for (size_t c = 0; c < logits.size(); c++) {
            if (!valid[c]) continue;
            left.push_back(logits[c]);
            if (best == logits.size() || logits[c] > logits[best]) best = c;
        }
        softmax(left.data(), left.size());
        for (size_t c = 0, i = 0; c < logits.size(); c++) answer.probabilities.push_back(valid[c] ? left[i++] : 0.0f);
        answer.action.push_back(float(best));
    }
    // score(relu(from_token(token) + from_latent(latent))) of every row that is there.
    std::vector<float> point(const Scene& scene, const Encoded& seen, const Matrix& latent) const {
        size_t start = 0, n = scene.types[pointer_type_].present.size();
        for (size_t t = 0; t < pointer_type_; t++) start += scene.types[t].present.size();
        Matrix hidden = from_token_(seen.entities), shared = from_latent_(latent);
        for (size_t i = 0; i < hidden.rows; i++)
            for (size_t c = 0; c < hidden.cols; c++) hidden[i][c] = std::max(hidden[i][c] + shared[0][c], 0.0f);
        Matrix scores = score_(hidden);
        std::vector<float> logits(n);
        for (size_t i = 0; i < seen.place.size(); i++)
            if (seen.place[i] >= start && seen.place[i] < start + n) logits[seen.place[i] - start] = scores.x[i];
        return logits;
    }
};

}  // namespace attn_rl
