import CryptoKit
import Foundation
import TensorFlowLite

/// One way to call a model, such as `translate_beam_256`. Lengths are in code points.
public struct Signature: Sendable {
    public let name: String
    public let sourceLength: Int
    public let targetLength: Int
    /// How many translations a call gives at most.
    public let hypotheses: Int

    public init(name: String, sourceLength: Int, targetLength: Int, hypotheses: Int) {
        self.name = name
        self.sourceLength = sourceLength
        self.targetLength = targetLength
        self.hypotheses = hypotheses
    }

    var hasBeam: Bool { name.hasPrefix("translate_beam") }
}

/// The file of a model. An export writes one, into a source of its own.
public struct ModelDescription: Sendable {
    public let file: String
    public let bytes: Int
    /// Hex digits, in lower case.
    public let sha256: String
    public let signatures: [Signature]

    public init(file: String, bytes: Int, sha256: String, signatures: [Signature]) {
        self.file = file
        self.bytes = bytes
        self.sha256 = sha256
        self.signatures = signatures
    }
}

/// Why a file cannot be used, in one line.
public struct ModelError: Error, CustomStringConvertible {
    public let description: String
}

/// One answer.
public struct Translation: Sendable {
    public let text: String
    /// The mean log-probability of its tokens, at most 0; 0 from a dictionary.
    public let score: Float
    /// What was read of the given text.
    public let source: String
    /// A row for each code point of `text`, and in it a number for each code point of
    /// `source`: the share of the row's character that came from that one.
    public let alignment: [[Float]]
}

/// A model that translates short text.
///
/// An actor: its calls wait for one another, and are made off the main thread.
public actor Model {
    private let signatures: [Signature]
    private let interpreter: Interpreter
    private let dictionary: [[UInt32]: String]
    private var runners: [String: SignatureRunner] = [:]
    private var remembered: [Question: [Translation]] = [:]

    // Strings are equal in Swift where their scalars are not: these are what was asked.
    private struct Question: Hashable {
        let source: [UInt32]
        let withBeam: Bool
    }

    /// How many answers are remembered before all of them are forgotten.
    private static let mostRemembered = 256

    /// Hypotheses that do not exist have a score below this.
    private static let noScore: Float = -1e6

    /// Opens a model from the bytes of its file.
    ///
    /// - Parameters:
    ///   - description: What the export wrote.
    ///   - data: Any other bytes than those described are refused before the runtime sees
    ///     them: it would crash on most. In memory: a file that is mapped and then cut off
    ///     ends the process.
    ///   - dictionary: Texts and their answers, which come before the model's own.
    /// - Throws: `ModelError` for other bytes, or an error of TensorFlow Lite.
    public init(
        _ description: ModelDescription, data: Data, dictionary: [String: String] = [:]
    ) throws {
        let problem = "\(description.file): damaged, or of another export: it does not have"
        guard data.count == description.bytes else {
            throw ModelError(description: "\(problem) the expected \(description.bytes) bytes")
        }
        let digest = SHA256.hash(data: data).map { String(format: "%02x", $0) }.joined()
        guard digest == description.sha256 else {
            throw ModelError(description: "\(problem) the expected SHA-256")
        }
        var options = Interpreter.Options()
        options.threadCount = 1
        options.isXNNPackEnabled = true
        interpreter = try Interpreter(modelData: data, options: options)
        signatures = description.signatures
        self.dictionary = Dictionary(
            dictionary.map { (codePoints(of: $0.key), $0.value) }, uniquingKeysWith: { $1 })
    }

    /// Opens a model from the app's resources.
    public init(
        _ description: ModelDescription, bundle: Bundle = .main,
        dictionary: [String: String] = [:]
    ) throws {
        guard let url = bundle.url(forResource: description.file, withExtension: nil) else {
            throw ModelError(description: "\(description.file): not among the app's resources")
        }
        try self.init(description, data: Data(contentsOf: url), dictionary: dictionary)
    }

    /// Whether `best` gives more than one answer.
    public var hasBeam: Bool { signatures.contains { $0.hasBeam } }

    /// Returns the answer to a text, of which too much is cut at whitespace.
    public func translate(_ text: String) throws -> Translation {
        try ask(text, withBeam: false)[0]
    }

    /// Returns the best answers to a text, best first, by the search with a beam.
    ///
    /// - Throws: `ModelError` where the file was exported without a beam.
    public func best(_ text: String) throws -> [Translation] {
        guard hasBeam else {
            throw ModelError(description: "the file has no beam, expected an export with --beam")
        }
        return try ask(text, withBeam: true)
    }

    private func ask(_ text: String, withBeam: Bool) throws -> [Translation] {
        try Task.checkCancellation()
        let whole = codePoints(of: text)
        if let answer = dictionary[whole] { return [byHeart(whole, answer)] }
        let source = cut(whole, signatures.map(\.sourceLength).max() ?? 0)
        let question = Question(source: source, withBeam: withBeam)
        if let answers = remembered[question] { return answers }
        let answers = try run(source, withBeam: withBeam)
        if remembered.count >= Self.mostRemembered { remembered.removeAll() }
        remembered[question] = answers
        return answers
    }

    private func run(_ source: [UInt32], withBeam: Bool) throws -> [Translation] {
        let fitting = signatures.filter {
            $0.hasBeam == withBeam && $0.sourceLength >= source.count
        }
        guard let shortest = fitting.min(by: { $0.sourceLength < $1.sourceLength }) else {
            throw ModelError(description: "no signature for \(source.count) code points")
        }
        let runner = try runners[shortest.name]
            ?? interpreter.signatureRunner(with: shortest.name)
        runners[shortest.name] = runner
        // All of the input: what an earlier, longer text left would be read, too.
        let padding = repeatElement(UInt32(0), count: shortest.sourceLength - source.count)
        try runner.invoke(with: ["text": (source + padding).withUnsafeBytes { Data($0) }])
        let codes: [UInt32] = numbers(in: try runner.output(named: "text"))
        let scores: [Float] = numbers(in: try runner.output(named: "score"))
        let shares: [Float] = numbers(in: try runner.output(named: "alignment"))
        return scores.prefix { $0 >= Self.noScore }.enumerated().map { place, score in
            let first = place * shortest.targetLength
            let answer = codes[first..<first + shortest.targetLength].prefix { $0 != 0 }
            let alignment = answer.indices.map { row in
                Array(shares[(row * shortest.sourceLength)...].prefix(source.count))
            }
            return Translation(
                text: string(answer), score: score, source: string(source), alignment: alignment)
        }
    }
}

private func numbers<Number>(in tensor: Tensor) -> [Number] {
    tensor.data.withUnsafeBytes { Array($0.bindMemory(to: Number.self)) }
}

/// Returns the code points of a text in NFC, up to its first U+0000.
private func codePoints(of text: String) -> [UInt32] {
    let whole = String(String.UnicodeScalarView(text.unicodeScalars.prefix { $0.value != 0 }))
    return whole.precomposedStringWithCanonicalMapping.unicodeScalars.map(\.value)
}

private func string(_ codes: some Sequence<UInt32>) -> String {
    String(String.UnicodeScalarView(codes.map { Unicode.Scalar($0) ?? "\u{FFFD}" }))
}

/// Cuts a text that is too long at the last whitespace that leaves a whole word.
private func cut(_ codes: [UInt32], _ longest: Int) -> [UInt32] {
    if codes.count <= longest { return codes }
    func isWhitespace(_ code: UInt32) -> Bool {
        Unicode.Scalar(code)?.properties.isWhitespace ?? false
    }
    // The whitespace itself need not fit.
    var end = longest + 1
    while end > 0, !isWhitespace(codes[end - 1]) { end -= 1 }
    while end > 0, isWhitespace(codes[end - 1]) { end -= 1 }
    return Array(codes.prefix(end > 0 ? end : longest))
}

/// An answer from a dictionary, which came evenly from all of the source.
private func byHeart(_ source: [UInt32], _ answer: String) -> Translation {
    let row = Array(repeating: 1 / Float(max(source.count, 1)), count: source.count)
    return Translation(
        text: answer, score: 0, source: string(source),
        alignment: answer.unicodeScalars.map { _ in row })
}
