/** See pocketseq.js. */

/** The files cannot be used: missing, damaged, or not of an export. */
export class ModelError extends Error {}

export interface Translation {
  readonly text: string;
  /** The mean log-probability of its tokens, at most 0; 0 where a dictionary gave it. */
  readonly score: number;
  /** What was read of the given text. */
  readonly source: string;
  /**
   * A row for each code point of `text` and a column for each of `source`: the share of the
   * row's character that came from the column's.
   */
  readonly alignment: readonly Float32Array[];
}

export interface Tensor {
  name: string;
  dtype: "int32" | "float32";
  shape: number[];
}

export interface Description {
  file: string;
  bytes: number;
  sha256: string;
  signatures: Record<string, { inputs: Tensor[]; outputs: Tensor[] }>;
}

export interface Options {
  /** Which file of an export; default: int8 if it is there. */
  recipe?: string;
  /** Texts and their answers, which come before the model's own. */
  dictionary?: Record<string, string>;
  /** The folder with LiteRT.js; default: litert, beside pocketseq.js. */
  runtime?: string | URL;
  /** worker.js; default: beside pocketseq.js. */
  worker?: string | URL;
}

export class Model {
  private constructor();
  static open(folder: string | URL, options?: Options): Promise<Model>;
  static of(
    description: Description | Promise<Description>,
    data: ArrayBuffer | Uint8Array | Promise<ArrayBuffer | Uint8Array>,
    options?: Omit<Options, "recipe">,
  ): Promise<Model>;
  readonly hasBeam: boolean;
  readonly maxCodePoints: number;
  /** The URLs of what the worker has loaded, which a page without a network needs. */
  readonly files: readonly string[];
  translate(text: string, options?: { signal?: AbortSignal }): Promise<Translation>;
  best(text: string, options?: { signal?: AbortSignal }): Promise<Translation[]>;
  close(): void;
}

/** Of the calls of the function it returns only the latest one counts. */
export function latest<Given extends unknown[], Answer>(
  ask: (...given: [...Given, AbortSignal]) => Promise<Answer>,
): (...given: Given) => Promise<Answer | undefined>;

export function describe(manifest: string | object, recipe?: string): Description;

export function checkedSignatures(signatures: unknown): Description["signatures"];
