// swift-tools-version: 5.9
import PackageDescription

let package = Package(
    name: "Pocketseq",
    platforms: [.iOS(.v15)],
    products: [.library(name: "Pocketseq", targets: ["Pocketseq"])],
    dependencies: [
        // LiteRT's binaries can be had by branch only.
        .package(url: "https://github.com/google-ai-edge/LiteRT", branch: "release/2.3.0")
    ],
    targets: [
        .target(
            name: "Pocketseq",
            dependencies: [.product(name: "TensorFlowLite", package: "LiteRT")],
            path: "Sources"
        )
    ]
)
